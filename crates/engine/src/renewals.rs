//! Nodes that ask for their next certificate, and get it. What is asked for and signed lies in a folder of the runner; here it is decided who is heard
//! and how often, and recorded.

use std::collections::BTreeMap;

use bytes::Bytes;
use ordonnans_audit::{Detail, Verb};
use ordonnans_label::{Kind, Level, Name};
use ordonnans_message::{Digest, Frame, ReplyCode, Timestamp};

use crate::Session;
use crate::effects::Effect;
use crate::engine::Engine;

/// A node is heard once in this time, in milliseconds: more would be records and files without end.
const HEARD_EVERY_MS: u64 = 60_000;

/// When each node was last heard, and what it asked. Only nodes of the register are.
#[derive(Default)]
pub(crate) struct Asked(BTreeMap<Name, (Timestamp, Digest)>);

impl Asked {
    /// Whether a node may ask now; where it may, whether this is something else than it asked before.
    fn hear(&mut self, node: &Name, now: Timestamp, request: Digest) -> Option<bool> {
        let before = self.0.get(node).copied();
        // A clock that was put back does not keep a node silent.
        let soon = |at: Timestamp| at <= now && now.since(at) < HEARD_EVERY_MS;
        if before.is_some_and(|(at, _)| soon(at)) {
            return None;
        }
        self.0.insert(node.clone(), (now, request));
        Some(before.is_none_or(|(_, known)| known != request))
    }
}

impl Engine {
    /// A node asks. Its session has checked that the key of its certificate has signed the request.
    pub(crate) fn renewal_asked(
        &mut self,
        now: Timestamp,
        session: Session,
        of: Digest,
        request: Digest,
        text: Bytes,
    ) {
        let Some(node) = self.sessions.get(&session).map(|p| p.name().clone()) else {
            return;
        };
        let not = |code| Frame::NotKept {
            of,
            code,
            rule: None,
        };
        if node.kind() != Kind::Node {
            return self.send(session, not(ReplyCode::NotPermitted));
        }
        match self.asked_renewal.hear(&node, now, request) {
            None => return self.send(session, not(ReplyCode::Busy)),
            Some(false) => {}
            Some(true) => {
                let detail = Detail {
                    who: Some(node.clone()),
                    digest: Some(request),
                    ..Detail::default()
                };
                self.ledger
                    .record(now, Verb::RenewalAsked, Level::Ongerubriceerd, detail);
            }
        }
        self.out.push(Effect::KeepRenewal {
            session,
            node,
            of,
            text,
        });
    }

    /// The certificate for a node has come: it gets it, where it is on the line.
    pub(crate) fn renewal_signed(&mut self, node: &Name, certificate: Bytes) {
        if let Some(session) = self.on_line.get(node).copied() {
            self.send(session, Frame::Renewed { certificate });
        }
    }

    /// A node shows the certificate that it asked for.
    pub(crate) fn renewed(&mut self, now: Timestamp, node: Name, digest: Digest, until: Timestamp) {
        let detail = Detail {
            who: Some(node),
            digest: Some(digest),
            note: Some(format!("until {until}")),
            ..Detail::default()
        };
        self.ledger
            .record(now, Verb::Renewed, Level::Ongerubriceerd, detail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_heard_once_in_a_minute_and_the_same_is_no_news() {
        let at = |s: u64| Timestamp::from_millis(1_000_000 + s * 1_000);
        let name = |n: &str| format!("{n}.node.crisis.example").parse().expect("a name");
        let (ncc, def): (Name, Name) = (name("ncc"), name("def"));
        let [one, two] = [1, 2].map(|n| Digest::from([n; 32]));
        let mut asked = Asked::default();
        for (node, s, request, heard) in [
            (&ncc, 0, one, Some(true)),
            (&ncc, 59, one, None),
            (&ncc, 59, two, None),
            (&def, 59, one, Some(true)),
            (&ncc, 60, one, Some(false)),
            (&ncc, 120, two, Some(true)),
            (&ncc, 180, one, Some(true)),
            // The clock was put back.
            (&ncc, 100, one, Some(false)),
            (&ncc, 101, one, None),
        ] {
            assert_eq!(asked.hear(node, at(s), request), heard, "{node} at {s}");
        }
        assert_eq!(asked.0.len(), 2);
    }
}
