//! What leaves the system for partners, and what comes from them: labels and bindings of STANAG 4774 and 4778, and policies as XML-SPIF.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use ordonnans_identity::ess;
use ordonnans_label::{Confidentiality, Label, Language, Name, Policies};
use ordonnans_message::{Digest, ReceiptKind, Sha256Stream, Timestamp};
use ordonnans_stanag::binding::{
    self, MAX_DATA_BYTES, MAX_FILE_NAME_BYTES, Object, Subject, detached, encapsulating,
    is_file_name, is_media_type,
};
use ordonnans_stanag::{label, spif, xmpp};
use serde_json::{Value, json};

use crate::cli::{ExportArgs, ImportArgs};
use crate::commands::{message_id, show};
use crate::config::Config;
use crate::desk::{now, policies, usage};
use crate::exports::Folder;
use crate::failure::{Exit, Failure};
use crate::local::undocumented;
use crate::opening::open_message;

/// How the file is called that holds a binding.
const BINDING: &str = ".bdo";
const PLAIN: &str = "application/octet-stream";

fn unusable(path: &Path, e: &dyn std::fmt::Display) -> Failure {
    usage(
        format!("{} cannot be used: {e}", path.display()),
        "name a file that can be read, and a place that does not exist yet",
    )
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut f| f.write_all(bytes).and_then(|()| f.sync_all()))
        .map_err(|e| unusable(path, &e))
}

/// A file of at most so many bytes.
fn get(path: &Path, most: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![];
    File::open(path)
        .and_then(|f| f.take(most as u64 + 1).read_to_end(&mut bytes))
        .map_err(|e| unusable(path, &e))?;
    if bytes.len() > most {
        return Err(unusable(path, &format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

fn digest(path: &Path) -> std::io::Result<Digest> {
    let (mut file, mut stream) = (File::open(path)?, Sha256Stream::default());
    let mut part = vec![0; 64 * 1024];
    loop {
        match file.read(&mut part)? {
            0 => return Ok(stream.finish()),
            n => stream.update(&part[..n]),
        }
    }
}

/// What is bound to each file of a message.
struct Bound<'a> {
    label: &'a Label,
    created: Timestamp,
    originator: &'a Name,
    policies: &'a Policies,
    dir: &'a Path,
    encapsulate: bool,
    taken: BTreeSet<String>,
}

impl Bound<'_> {
    /// A name for a file of this folder: the one it came with where that can stand there, once.
    fn name(&mut self, given: Option<&str>, otherwise: &str) -> String {
        let room = MAX_FILE_NAME_BYTES - BINDING.len();
        let fits = |n: &&str| is_file_name(n) && n.len() <= room && !n.ends_with(BINDING);
        let given = given.filter(fits).filter(|n| !self.taken.contains(*n));
        let name = given.unwrap_or(otherwise).to_owned();
        self.taken.insert(name.clone());
        name
    }

    /// Binds the label to a file that is in the folder.
    fn bind(&self, name: &str, media_type: &str) -> Result<Value, Failure> {
        let media_type = if is_media_type(media_type) {
            media_type
        } else {
            PLAIN
        };
        let subject = Subject {
            label: self.label,
            created: self.created,
            originator: Some(self.originator),
            file_name: name,
            media_type,
        };
        let path = self.dir.join(name);
        let said = |e: &dyn std::fmt::Display| {
            usage(
                format!("the label cannot be bound to {name}: {e}"),
                "docs/stanag.md says what a binding can hold; a larger file is exported without --encapsulate",
            )
        };
        let digest = digest(&path).map_err(|e| unusable(&path, &e))?;
        let text = if self.encapsulate {
            let bytes = get(&path, MAX_DATA_BYTES)?;
            encapsulating(&subject, &bytes, self.policies).map_err(|e| said(&e))?
        } else {
            detached(&subject, &digest, self.policies).map_err(|e| said(&e))?
        };
        let binding = format!("{name}{BINDING}");
        put(&self.dir.join(&binding), text.as_bytes())?;
        if self.encapsulate {
            fs::remove_file(&path).map_err(|e| unusable(&path, &e))?;
        }
        Ok(
            json!({ "file": name, "binding": binding, "sha256": digest, "label": self.label.to_string() }),
        )
    }
}

/// Takes a message out of the system. The receipt *exported* is kept before anything is opened.
pub(crate) fn export(config: &Config, args: &ExportArgs) -> Result<Exit, Failure> {
    let id = message_id(&args.id)?;
    let policies = policies(config.policies.as_deref())?;
    let dir = std::path::absolute(&args.dir).map_err(|e| unusable(&args.dir, &e))?;
    // Before anything is opened: who exports must be able to keep it.
    let folder = Folder::make(&dir)?;
    let kind = ReceiptKind::Exported;
    let reader = args.reader.person()?;
    let read = |attachment: Option<(usize, PathBuf)>| {
        open_message(&config.socket, id, kind, reader.as_ref(), attachment)
    };
    let answer = read(None)?;
    let broken = || undocumented(());
    let text = |v: &Value| v.as_str().map(str::to_owned);
    let shown = text(&answer["label_now"]).or_else(|| text(&answer["label"]));
    let label = policies
        .read(&shown.ok_or_else(broken)?)
        .map_err(|e| Failure::internal(format!("the label: {e}")))?;
    let originator: Name = answer["originator"]
        .as_str()
        .and_then(|n| n.parse().ok())
        .ok_or_else(broken)?;
    let created = answer["created"].as_str().and_then(|t| t.parse().ok());
    let mut bound = Bound {
        label: &label,
        created: created.ok_or_else(broken)?,
        originator: &originator,
        policies: &policies,
        dir: &dir,
        encapsulate: args.encapsulate,
        taken: BTreeSet::new(),
    };
    let body = answer["body"].as_str().unwrap_or_default();
    let body = BASE64.decode(body.as_bytes()).map_err(|_| broken())?;
    let name = bound.name(answer["name"].as_str(), "content");
    put(&dir.join(&name), &body)?;
    let mut files = vec![bound.bind(&name, answer["media_type"].as_str().unwrap_or(PLAIN))?];
    for (i, a) in answer["attachments"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let name = bound.name(a["name"].as_str(), &format!("attachment-{}", i + 1));
        read(Some((i + 1, dir.join(&name))))?;
        files.push(bound.bind(&name, a["media_type"].as_str().unwrap_or(PLAIN))?);
    }
    // The files are as they were bound; what numbers the copy stands on a sheet that goes before them.
    if let Some(copy) = answer["copy"].as_str() {
        let mut sheet = format!("{label}\n{copy}\n{id}\n\n");
        for f in &files {
            let text = |k: &str| f[k].as_str().unwrap_or_default().to_owned();
            sheet.push_str(&format!("{}  {}\n", text("sha256"), text("file")));
        }
        let name = bound.name(Some("copy.txt"), "copy-number.txt");
        put(&dir.join(name), sheet.as_bytes())?;
    }
    folder.done();
    show(&Value::Array(files), args.listing)
}

/// Reads a binding back: the label, whether its policy allows it, and whether the file is the one it was bound to.
pub(crate) fn import(config: &Path, args: &ImportArgs) -> Result<Exit, Failure> {
    let configured = || Config::load(config).ok().and_then(|c| c.policies);
    let folder = args.policies.clone().or_else(configured);
    let policies = policies(folder.as_deref())?;
    let bytes = get(&args.binding, binding::MAX_XML_BYTES)?;
    let refused = |e: &dyn std::fmt::Display| {
        Failure::new(
            Exit::Refused,
            format!("{}: {e}", args.binding.display()),
            "send it back to whoever made it; docs/stanag.md says what is read",
        )
    };
    let read = binding::read(&bytes, &policies).map_err(|e| refused(&e))?;
    let (label, object) = read.one().map_err(|e| refused(&e))?;
    let valid = policies.check(&label.label.confidentiality);
    let mut about = json!({
        "label": label.label.to_string(), "valid": valid.is_ok(),
        "why_not": valid.err().map(|e| e.to_string()), "created": label.created,
        "originator": label.originator.as_ref().map(|o| &o.id), "privacy_mark": label.privacy_mark,
        // A label says who made it; nobody's signature was looked at.
        "signatures_not_verified": read.signatures,
    });
    let matches = match object {
        Object::Octets {
            file_name,
            media_type,
            bytes,
        } => {
            about["file"] = json!(file_name);
            about["media_type"] = json!(media_type);
            if let Some(out) = &args.out {
                put(out, bytes)?;
                about["saved"] = json!(out);
            }
            true
        }
        Object::Reference {
            uri,
            file_name,
            digest: stated,
            ..
        } => {
            about["file"] = json!(file_name.as_ref().unwrap_or(uri));
            let beside = file_name.as_ref().map(|n| args.binding.with_file_name(n));
            let found = beside.and_then(|path| digest(&path).ok());
            about["sha256"] = json!(stated);
            about["file_is_the_one"] = json!(found.is_some() && found == *stated);
            found.is_some() && found == *stated
        }
        Object::Element => return Err(refused(&"it holds XML, which is not taken out")),
    };
    let valid = about["valid"] == true;
    show(&about, args.listing)?;
    Ok(match (matches, valid) {
        (false, _) => Exit::Proof,
        (true, false) => Exit::Refused,
        (true, true) => Exit::Done,
    })
}

/// A label as XML, made now.
pub(crate) fn xml(policies: &Policies, text: &str) -> Result<String, Failure> {
    let said = |e: &dyn std::fmt::Display| {
        usage(
            format!("the label: {e}"),
            "`ordonnans label parse` says what is wrong with one",
        )
    };
    let read = policies.read(text).map_err(|e| said(&e))?;
    label::write(&read, now(), None, policies).map_err(|e| said(&e))
}

/// A label as an ESS label, DER in base64.
pub(crate) fn to_ess(policies: &Policies, c: &Confidentiality) -> Result<String, Failure> {
    let der = ess::to_der(c, policies).map_err(|e| {
        usage(
            format!("the label has no numbers: {e}"),
            "`ordonnans label parse` says what is wrong with one",
        )
    })?;
    Ok(BASE64.encode(&der))
}

/// An ESS label in base64, as it is typed here.
pub(crate) fn from_ess(policies: &Policies, text: &str) -> Result<String, Failure> {
    let refused = |e: &dyn std::fmt::Display| {
        Failure::new(
            Exit::Refused,
            format!("the label: {e}"),
            "it goes back to whoever made it; `ordonnans label policies` lists what is known here",
        )
    };
    let der = BASE64
        .decode(text.trim().as_bytes())
        .map_err(|e| refused(&format!("not base64: {e}")))?;
    let c = ess::from_der(&der, policies).map_err(|e| refused(&e))?;
    Ok(c.to_string())
}

/// A catalogue of XEP-0258, of the labels that the broker says may be used.
pub(crate) fn catalog(policies: &Policies, to: &str, labels: &Value) -> Result<String, Failure> {
    let mut items = vec![];
    for row in labels.as_array().into_iter().flatten() {
        let text = row["label"].as_str().unwrap_or_default();
        let read = policies.read(text);
        let c = read
            .map_err(|e| Failure::internal(format!("the label: {e}")))?
            .confidentiality;
        let level = policies
            .get(c.policy())
            .and_then(|p| p.level(c.classification().name()));
        // A label without numbers has no place in such a catalogue.
        if let (Ok(ess), Some(level)) = (ess::to_der(&c, policies), level) {
            items.push(xmpp::Item {
                selector: text.to_owned(),
                marking: policies.marking(&c, Language::En),
                colour: level.colour.clone(),
                ess,
            });
        }
    }
    Ok(xmpp::catalog(to, &items))
}

/// Prints the policy file that an XML-SPIF makes; what was not carried over goes to standard error.
pub(crate) fn import_spif(file: &Path, policies: &Policies) -> Result<Exit, Failure> {
    let bytes = get(file, spif::MAX_XML_BYTES)?;
    let imported = spif::read(&bytes, policies).map_err(|e| {
        Failure::new(
            Exit::Refused,
            format!("{}: {e}", file.display()),
            "docs/stanag.md says what is read of an XML-SPIF",
        )
    })?;
    for note in &imported.notes {
        eprintln!("{note}");
    }
    // A reader that went away, like `head`, is no failure.
    drop(std::io::stdout().write_all(imported.toml.as_bytes()));
    Ok(Exit::Done)
}
