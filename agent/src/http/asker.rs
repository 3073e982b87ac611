//! Who asks: put into every request before the routes see it, so that what is started is logged with a name.

use std::fmt;

use super::roles::Roles;

/// The one behind a request. Its name is `user:NAME`, `token:NAME`, `cert:NAME`, `unix:uid=N` or `anonymous`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    pub name: String,
    pub roles: Roles,
    /// Where the connection comes from, `ADDRESS:PORT` or `unix`.
    pub address: String,
}

/// The name, and where from.
impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.address)
    }
}

impl Asker {
    /// Root, over a Unix socket, as the kernel says.
    pub(super) fn is_local_root(&self) -> bool {
        self.address == "unix" && self.name == "unix:uid=0"
    }

    /// Says in the log that this one has started something: `what` is the route's word for it (`run`, `reload`), `detail`
    /// what it is about. To be called once the request is understood, and before it is done.
    pub(super) fn starts(&self, what: &str, detail: impl fmt::Display) {
        tracing::info!(asker = self.name, address = self.address, %detail, "{what} was asked for");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_root_is_whom_the_kernel_names_and_nobody_else() {
        for (name, address, root) in [
            ("unix:uid=0", "unix", true),
            ("unix:uid=1000", "unix", false),
            ("unix:uid=0", "127.0.0.1:1", false),
            ("user:unix:uid=0", "unix", false),
            ("anonymous", "127.0.0.1:1", false),
        ] {
            let asker = Asker { name: name.to_owned(), roles: Roles::ALL, address: address.to_owned() };
            assert_eq!(asker.is_local_root(), root, "{asker}");
        }
    }
}
