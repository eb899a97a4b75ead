//! What nodes may look up: who is there, and the keys to seal to.

use bytes::Bytes;
use ordonnans_audit::{Detail, Verb};
use ordonnans_label::{Kind, Level};
use ordonnans_message::{
    DirectoryEntry, Frame, ReplyCode, SignedKeyPackage, Timestamp, limits, sha256,
};
use ordonnans_seal::Verified;

use crate::engine::Engine;
use crate::{Session, Table, Write};

impl Engine {
    pub(crate) fn key_package(
        &mut self,
        now: Timestamp,
        session: Session,
        package: &Verified<SignedKeyPackage>,
    ) {
        let Some(from) = self.sessions.get(&session).map(|p| p.name().clone()) else {
            return;
        };
        let p = package.get().said();
        // A node brings its own key, and those of the persons whom the register has there.
        let own = p.name == from && from.kind() == Kind::Node;
        let of_ours = || {
            let person = self.register.person(&p.name);
            person.is_some_and(|e| e.node == from)
        };
        if !(own || of_ours()) || p.not_after <= now {
            return self.rejected(now, session, None, ReplyCode::NotAuthentic);
        }
        let bytes: Bytes = package.get().encode();
        let owner = p.name.clone();
        if self.packages.get(&owner) != Some(&bytes) {
            let detail = Detail {
                who: Some(from.clone()),
                person: (owner != from).then(|| owner.clone()),
                digest: Some(sha256(&[&bytes])),
                note: Some("published an encryption key".into()),
                ..Detail::default()
            };
            self.ledger.record(
                now,
                Verb::ConfigurationChanged,
                Level::Ongerubriceerd,
                detail,
            );
            self.ledger.write(Write::Put {
                table: Table::Packages,
                key: owner.as_str().to_owned().into(),
                value: bytes.clone(),
            });
            self.packages.insert(owner, bytes);
        }
        self.send(session, Frame::KeyPackageStored);
    }

    pub(crate) fn directory(&mut self, now: Timestamp, session: Session) {
        if !self.sessions.contains_key(&session) {
            return;
        }
        // Names, titles and keys of accredited nodes; what they hold is not for everyone.
        let nodes = self.register.nodes().filter(|n| n.in_good_standing(now));
        let mut all: Vec<DirectoryEntry> = nodes
            .map(|n| DirectoryEntry {
                name: n.name.clone(),
                title: n.title.clone(),
                package: self.packages.get(&n.name).cloned(),
            })
            .collect();
        // Of persons those who have a key to seal to and whose node still is theirs.
        let persons = self.register.persons().filter_map(|p| {
            let node = self.register.node(&p.node)?;
            let package = self.packages.get(&p.name)?;
            node.in_good_standing(now).then(|| DirectoryEntry {
                name: p.name.clone(),
                title: p.node.local().to_owned(),
                package: Some(package.clone()),
            })
        });
        all.extend(persons);
        let version = self.register.version();
        let mut parts = all.chunks(limits::MAX_DIRECTORY).peekable();
        // A structure without nodes has a directory too.
        loop {
            let entries = parts.next().unwrap_or_default().to_vec();
            let more = parts.peek().is_some();
            let part = Frame::Directory {
                version,
                entries,
                more,
            };
            self.send(session, part);
            if !more {
                return;
            }
        }
    }
}
