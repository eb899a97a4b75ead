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
        if p.name != from || from.kind() != Kind::Node || p.not_after <= now {
            return self.rejected(now, session, None, ReplyCode::NotAuthentic);
        }
        let bytes: Bytes = package.get().encode();
        if self.packages.get(&from) != Some(&bytes) {
            let detail = Detail {
                who: Some(from.clone()),
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
                key: from.as_str().to_owned().into(),
                value: bytes.clone(),
            });
            self.packages.insert(from, bytes);
        }
        self.send(session, Frame::KeyPackageStored);
    }

    pub(crate) fn directory(&mut self, now: Timestamp, session: Session) {
        if !self.sessions.contains_key(&session) {
            return;
        }
        // Names, titles and keys of accredited nodes; what they hold is not for everyone.
        let all: Vec<DirectoryEntry> = self
            .register
            .nodes()
            .filter(|n| n.in_good_standing(now))
            .map(|n| DirectoryEntry {
                name: n.name.clone(),
                title: n.title.clone(),
                package: self.packages.get(&n.name).cloned(),
            })
            .collect();
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
