//! Users with passwords. bcrypt is slow on purpose: it runs on other threads, a few at a time, and a password that was right is
//! remembered by its digest, so that a scrape pays for it once. What was wrong is not remembered: nobody can fill that memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use bcrypt::HashParts;
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

use super::digest;
use crate::http::roles::Roles;

/// The toolkit's page speaks of 18 as "up to a few seconds"; more would outlast every request.
const MAX_COST: u32 = 18;
/// At the same time: it is one core's work each.
const AT_ONCE: usize = 2;
/// That wait for their turn; the next one is told to come again.
const MAX_WAITING: usize = 64;

/// Too many passwords wait to be compared.
#[derive(Debug)]
pub(in crate::http) struct Busy;

/// Bounds the comparisons; one for the whole agent, whatever is read anew.
#[derive(Clone, Debug)]
pub(in crate::http) struct Work {
    turns: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Default for Work {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)), waiting: Arc::new(Semaphore::new(MAX_WAITING)) }
    }
}

impl Work {
    /// Whether the password is the hash's. The turn is held until the comparison has ended, also if nobody waits for it any more.
    async fn compare(&self, password: Vec<u8>, hash: String) -> Result<bool, Busy> {
        let _waiting = self.waiting.try_acquire().map_err(|_| Busy)?;
        let turn = self.turns.clone().acquire_owned().await.map_err(|_| Busy)?;
        let compared = tokio::task::spawn_blocking(move || {
            let same = bcrypt::verify(password, &hash).unwrap_or(false);
            drop(turn);
            same
        });
        Ok(compared.await.unwrap_or(false))
    }
}

#[derive(Debug)]
struct User {
    hash: String,
    roles: Roles,
}

#[derive(Debug, Default)]
pub(in crate::http) struct Users {
    all: BTreeMap<String, User>,
    /// Digest of the password that was right, by user: no more of them than users.
    right: Mutex<HashMap<String, [u8; 32]>>,
}

impl Users {
    pub(super) fn add(&mut self, name: &str, hash: String, roles: Roles) -> Result<(), String> {
        if name.is_empty() || name.contains(':') || name.chars().any(char::is_control) {
            return Err("a user's name is not empty and has neither colons nor control characters".to_owned());
        }
        let parts: HashParts = hash.parse().map_err(|_| {
            "must be a bcrypt hash, such as $2y$10$...; make one with: htpasswd -nBC 10 NAME".to_owned()
        })?;
        if parts.get_cost() > MAX_COST {
            return Err(format!("a cost above {MAX_COST} takes longer than a request may"));
        }
        self.all.insert(name.to_owned(), User { hash, roles });
        Ok(())
    }

    pub(in crate::http) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The user's roles if the password is right. A user that is not there costs as much as a wrong password.
    pub(in crate::http) async fn roles(
        &self,
        name: &str,
        password: &[u8],
        work: &Work,
    ) -> Result<Option<Roles>, Busy> {
        let user = self.all.get(name);
        let given = digest(password);
        if let Some(user) = user
            && let Ok(right) = self.right.lock()
            && right.get(name).is_some_and(|right| right.ct_eq(&given).into())
        {
            return Ok(Some(user.roles));
        }
        let Some(compared) = user.or_else(|| self.all.values().next()) else { return Ok(None) };
        let same = work.compare(password.to_vec(), compared.hash.clone()).await?;
        let Some(user) = user.filter(|_| same) else { return Ok(None) };
        if let Ok(mut right) = self.right.lock() {
            right.insert(name.to_owned(), given);
        }
        Ok(Some(user.roles))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `htpasswd -nbBC 4 alice 'correct horse'` of apache2-utils 2.4; the same version of the algorithm is `2b` to OpenBSD
    /// and `2a` to older tools.
    const HASH: &str = "$2y$04$DZKOzDiPwTjWZbzPohBdz.v0vC9F2n0dRDY1dQAv9S/mk2An1yPU6";
    /// `htpasswd -nbB dave 'pässwörd:with:colons'`.
    const COLONS: &str = "$2y$05$r9eoOS9pV1uXwojSxwqWie5mfXxtwveiVLauKVOQ4cibdov7NGDM.";

    fn users() -> Users {
        let mut users = Users::default();
        for (name, hash) in [
            ("alice", HASH.to_owned()),
            ("bob", HASH.replace("$2y", "$2a")),
            ("carol", HASH.replace("$2y", "$2b")),
            ("dave", COLONS.to_owned()),
        ] {
            users.add(name, hash, Roles::READ).unwrap();
        }
        users
    }

    #[tokio::test]
    async fn a_right_password_is_known_and_a_wrong_one_is_not() {
        let (users, work) = (users(), Work::default());
        for (name, password, known) in [
            ("alice", "correct horse", true),
            ("alice", "correct horse", true),
            ("bob", "correct horse", true),
            ("carol", "correct horse", true),
            ("dave", "pässwörd:with:colons", true),
            ("alice", "correct horses", false),
            ("alice", "", false),
            ("Alice", "correct horse", false),
            ("mallory", "correct horse", false),
            ("", "", false),
        ] {
            let roles = users.roles(name, password.as_bytes(), &work).await.unwrap();
            assert_eq!(roles.is_some(), known, "{name} {password}");
        }
        assert_eq!(users.right.lock().unwrap().len(), 4, "only right ones are remembered");
    }

    #[tokio::test]
    async fn too_many_comparisons_are_refused_and_a_known_password_needs_none() {
        let (users, work) = (users(), Work::default());
        assert!(users.roles("alice", b"correct horse", &work).await.unwrap().is_some());
        let all = work.waiting.clone().try_acquire_many_owned(u32::try_from(MAX_WAITING).unwrap()).unwrap();
        assert!(users.roles("alice", b"wrong", &work).await.is_err());
        assert!(users.roles("nobody", b"wrong", &work).await.is_err());
        assert!(users.roles("alice", b"correct horse", &work).await.unwrap().is_some());
        drop(all);
        assert!(users.roles("alice", b"wrong", &work).await.unwrap().is_none());
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        for hash in [
            "",
            "doe",
            "$1$abc$def",
            "$2y$10$short",
            "{SHA}x",
            "$2y$31$1DpfPeqF9HzHJt.EWswy1exHluGfbhnn3yXhR7Xes6m3WJqFg0Wby",
        ] {
            assert!(Users::default().add("x", hash.to_owned(), Roles::ALL).is_err(), "{hash}");
        }
        let good = "$2y$12$1DpfPeqF9HzHJt.EWswy1exHluGfbhnn3yXhR7Xes6m3WJqFg0Wby";
        for (name, right) in [("alice", true), ("", false), ("a:b", false), ("a\nb", false)] {
            assert_eq!(Users::default().add(name, good.to_owned(), Roles::ALL).is_ok(), right, "{name:?}");
        }
    }
}
