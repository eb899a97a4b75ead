//! Scenes in which a message is passed on: as it is, and as an extract with the signatures of two persons.

use ordonnans_client::local::Request;
use ordonnans_client::signing::{self, Signers};
use ordonnans_message::MessageId;

use crate::judge::{Passing, Sent};
use crate::play::{Play, addressed, taken};
use crate::scenario::Message;
use crate::structure::Trouble;

impl Play<'_> {
    fn id_of(&mut self, name: &str) -> Result<MessageId, Trouble> {
        let id = self.named(name)?.id.as_deref();
        let id = id.and_then(|id| id.parse().ok());
        id.ok_or_else(|| format!("'{name}' was not sent"))
    }

    fn whither(&self, what: &str, of: &str, m: &Message) {
        let to: Vec<&str> = addressed(m).into_iter().collect();
        self.progress.say(&format!(
            "{:9} {:14} {} -> {}: {what} of \"{of}\"",
            m.precedence.to_uppercase(),
            m.level,
            m.from,
            to.join(", ")
        ));
    }

    /// A node that has a message passes it on as it is.
    pub(crate) fn forward(&mut self, of: &str, m: &Message) -> Result<(), Trouble> {
        let id = self.id_of(of)?;
        self.whither("forward", of, m);
        let request = Request::Forward {
            id,
            receipt: None,
            message: Box::new(self.submission(m)),
            wait: true,
        };
        let answer = self.structure.ask(&m.from, &request);
        let id = taken(&m.from, answer)?;
        self.sent.push(Sent {
            id,
            passing: Some(Passing {
                of: of.to_owned(),
                signed: vec![],
            }),
            ..Sent::new(m.clone())
        });
        Ok(())
    }

    /// An extract is signed by its vaststeller, and then by a second person, where one is named.
    pub(crate) fn extract(
        &mut self,
        of: &str,
        by: &str,
        second: Option<&str>,
        m: &Message,
    ) -> Result<(), Trouble> {
        let parent = self.id_of(of)?;
        self.whither("extract", of, m);
        let config = self.structure.config(&m.from)?;
        let first = self.structure.person(by)?;
        let signers = Signers {
            first: &first,
            second: None,
        };
        let message = Box::new(self.submission(m));
        let said = |f| format!("{}: {f}", m.from);
        let answer = signing::extract(&config, parent, message, Some(signers), &[], true);
        let mut answer = answer.map_err(said)?;
        if let Some(second) = second {
            if !answer["id"].is_null() {
                return Err(format!(
                    "an extract of \"{of}\" went out with one signature"
                ));
            }
            let draft = answer["draft"].as_str().and_then(|d| d.parse().ok());
            let draft = draft.ok_or("an answer without a draft")?;
            self.progress.say(&format!(
                "          {by} has signed; it waits for a second person"
            ));
            if signing::second(&config, draft, &first, true).is_ok() {
                return Err(format!("{by} signed twice, as two persons"));
            }
            let person = self.structure.person(second)?;
            answer = signing::second(&config, draft, &person, true).map_err(said)?;
            let verdict = answer["verdict"]["state"].as_str().unwrap_or("-");
            self.progress
                .say(&format!("          {second} signs, too: {verdict}"));
        }
        self.sent.push(Sent {
            id: answer["id"].as_str().map(str::to_owned),
            passing: Some(Passing {
                of: of.to_owned(),
                signed: std::iter::once(by)
                    .chain(second)
                    .map(str::to_owned)
                    .collect(),
            }),
            ..Sent::new(m.clone())
        });
        Ok(())
    }
}
