//! What a running daemon takes over from the disk: policies, authorities and lists, its own certificate and key. Where one of them cannot be used, what was
//! in force stays, and the others are taken all the same.

use std::sync::{Arc, PoisonError, RwLock};

use ordonnans_identity::{FileSigner, Signer, Trust, Usage};

use crate::desk::{Desk, lock, policies};

fn put<T>(place: &RwLock<Arc<T>>, new: T) {
    *place.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
}

impl Desk {
    /// Reads everything again. Gives what could not be taken, in words for the operator, and has said so in the log.
    pub(crate) fn reload(&self) -> Vec<String> {
        let mut problems = vec![];
        match policies(self.config.policies.as_deref()) {
            Ok(new) => put(&self.policies, new),
            Err(why) => problems.push(format!("a policy cannot be used: {why}")),
        }
        if let Err(why) = self.reload_trust() {
            problems.push(format!("the trust folder cannot be used: {why}"));
        }
        if let Err(why) = self.reload_signer() {
            problems.push(format!("certificate and key cannot be used: {why}"));
        }
        for why in &problems {
            tracing::warn!(why, "what was in force stays");
        }
        let (warnings, mut warned) = (self.warnings(), lock(&self.warned));
        for why in warnings.iter().filter(|w| !warned.contains(w)) {
            tracing::warn!(why, "something is due");
        }
        *warned = warnings;
        problems
    }

    fn reload_trust(&self) -> Result<(), String> {
        let trust = Trust::load_dir(&self.config.trust).map_err(|e| e.to_string())?;
        let trust = trust.with_grace(self.config.crl_grace);
        // Before it is in force: after a kill an older list is known as one.
        let accepted = lock(&self.numbers).accept(&trust);
        accepted.map_err(|e| e.to_string())?;
        put(&self.trust, trust);
        Ok(())
    }

    /// Takes over another certificate of this node with its key. One that is not believed, such as one by an authority that is not in `trust` yet,
    /// would end the line.
    pub(crate) fn reload_signer(&self) -> Result<(), String> {
        let (certificate, key) = (&self.config.certificate, &self.config.key);
        let new = FileSigner::load(certificate, key).map_err(|e| e.to_string())?;
        let (old, said) = (self.signer(), new.certificate());
        if said == old.certificate() {
            return Ok(());
        }
        if said.name() != &self.name {
            return Err(format!("they are {}'s, not {}'s", said.name(), self.name));
        }
        let believed = self.trust().verify(said.der(), Usage::Client, self.now());
        believed.map_err(|e| e.to_string())?;
        tracing::info!(until = %said.not_after(), "another certificate of the node is in use");
        put(&self.signer, new);
        self.renewals.send_modify(|n| *n = n.wrapping_add(1));
        Ok(())
    }

    /// What somebody should look at: late lists, a certificate that is to be renewed.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let now = self.now();
        let mut all: Vec<_> = self.trust().late(now).map(|l| l.to_string()).collect();
        let signer = self.signer();
        if signer.certificate().is_due(now) {
            all.push(format!(
                "the node's certificate ends {}; {}",
                signer.certificate().not_after(),
                self.renewal_state()
            ));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use data_encoding::BASE64;
    use ordonnans_certs::Issued;
    use ordonnans_identity::write_secret_file;
    use ordonnans_label::Kind;
    use ordonnans_message::SignedKeyPackage;

    use super::*;
    use crate::house::House;

    fn pem(kind: &str, der: &[u8]) -> String {
        let text = BASE64.encode(der);
        format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n")
    }

    fn put_identity(dir: &Path, certificate: &Issued, key: &Issued) {
        let (chain, secret) = (dir.join("cert.pem"), dir.join("key.pem"));
        fs::write(chain, pem("CERTIFICATE", &certificate.certificate)).expect("writes");
        drop(fs::remove_file(&secret));
        let text = pem("PRIVATE KEY", &key.key_pkcs8());
        write_secret_file(&secret, text.as_bytes()).expect("writes");
    }

    fn put_trust(dir: &Path, house: &House, lists: &[Vec<u8>; 2]) {
        let trust = house.authority.trust().expect("a trust");
        let folder = dir.join("trust");
        fs::create_dir_all(&folder).expect("makes");
        for (name, kind, der) in [
            ("root.pem", "CERTIFICATE", trust.roots()[0].as_ref()),
            (
                "issuing.pem",
                "CERTIFICATE",
                trust.intermediates()[0].as_ref(),
            ),
            ("root.crl.pem", "X509 CRL", lists[0].as_ref()),
            ("issuing.crl.pem", "X509 CRL", lists[1].as_ref()),
        ] {
            fs::write(folder.join(name), pem(kind, der)).expect("writes");
        }
    }

    #[test]
    fn a_running_daemon_takes_what_is_good_and_keeps_what_it_had_where_it_is_not() {
        let mut house = House::new();
        let dir = tempfile::tempdir().expect("a folder");
        let [first, second, third] = [(); 3].map(|()| house.issue("ncc", Kind::Node));
        let other = house.issue("locc", Kind::Node);
        let lists = |house: &House| {
            let both = house.authority.lists().expect("lists");
            both.map(|l| l.to_vec())
        };
        let before_lists = house.authority.lists().expect("lists");
        let before = lists(&house);
        put_identity(dir.path(), &first, &first);
        put_trust(dir.path(), &house, &before);
        let mut config = house.config("ncc");
        config.certificate = dir.path().join("cert.pem");
        config.key = (&dir.path().join("key.pem")).into();
        config.trust = dir.path().join("trust");
        let clock = house.clock.clone();
        let desk = Desk::assemble(
            config,
            House::signer(&first),
            house.authority.trust().expect("a trust"),
            Arc::new(move || {
                let ms = clock.load(std::sync::atomic::Ordering::Relaxed);
                ordonnans_message::Timestamp::from_millis(ms)
            }),
        );
        let desk = desk.expect("a desk");
        let renewals = desk.renewals();
        let signs = |i: &Issued| desk.signer().certificate().der() == i.certificate.as_ref();
        let reload = || desk.reload().join("; ");
        assert_eq!(reload(), "");
        assert!(signs(&first) && !renewals.has_changed().expect("open"));
        // Another certificate with its key: the next statement is signed with it.
        put_identity(dir.path(), &second, &second);
        assert_eq!(reload(), "");
        assert!(signs(&second) && renewals.has_changed().expect("open"));
        let package = SignedKeyPackage::decode(&desk.package().expect("a key")).expect("decodes");
        assert_eq!(package.signed().certificate(), second.certificate.as_ref());
        // Half of a change, somebody else's, and one that is revoked.
        put_identity(dir.path(), &third, &second);
        assert!(reload().contains("does not belong"), "{}", reload());
        put_identity(dir.path(), &other, &other);
        assert!(reload().contains("not ncc.node"), "{}", reload());
        house.revoke(&third);
        put_identity(dir.path(), &third, &third);
        put_trust(dir.path(), &house, &lists(&house));
        assert!(reload().contains("CertRevoked"), "{}", reload());
        assert!(signs(&second));
        // The lists of before are known as older ones, and the newer stay in force.
        put_identity(dir.path(), &second, &second);
        put_trust(dir.path(), &house, &before);
        assert!(
            reload().contains("has number 1, and number 2"),
            "{}",
            reload()
        );
        let believed = |i: &Issued| {
            let said = desk.trust();
            said.verify(&i.certificate, Usage::Client, desk.now())
                .is_ok()
        };
        assert!(believed(&second) && !believed(&third));
        // It lives for 301 days: with 100 left it is due.
        assert!(desk.warnings().is_empty());
        house.later(201 * 86_400_000);
        assert!(desk.warnings()[0].contains("the node's certificate ends"));
        house.later(100 * 86_400_000);
        let late = desk.warnings();
        assert!(
            late.len() == 3 && late[0].contains("revocation list by"),
            "{late:?}"
        );
        // After a start they are known as older ones, too.
        let config = desk.config.clone();
        drop(desk);
        let old = house.authority.trust_with(before_lists.into());
        let begun = Desk::assemble(
            config,
            House::signer(&second),
            old.expect("a trust"),
            Arc::new(crate::desk::now),
        );
        let why = begun.err().expect("refused").to_string();
        assert!(why.contains("has number 1, and number 2"), "{why}");
    }
}
