//! What each request needs: one pure table from method and path to roles. It compares paths as they are written, byte for
//! byte, as the routes do; what is not in the table needs more than it would in it.

use std::fmt;

use hyper::Method;

/// What somebody may do. No role includes another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    /// The numbers: `/metrics` and the list of targets.
    pub read: bool,
    /// What shows command lines and output of all tenants: pages, containers, captures, alerts.
    pub view: bool,
    /// What starts something.
    pub trigger: bool,
}

impl Roles {
    pub const NONE: Self = Self { read: false, view: false, trigger: false };
    pub const READ: Self = Self { read: true, ..Self::NONE };
    pub const VIEW: Self = Self { view: true, ..Self::NONE };
    pub const TRIGGER: Self = Self { trigger: true, ..Self::NONE };
    pub const ALL: Self = Self { read: true, view: true, trigger: true };

    /// What is in either.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            read: self.read || other.read,
            view: self.view || other.view,
            trigger: self.trigger || other.trigger,
        }
    }

    /// True if every one of `needed` is among these.
    pub fn cover(self, needed: Self) -> bool {
        self.and(needed) == self
    }

    /// What of `needed` is not among these.
    #[must_use]
    pub fn lacks(self, needed: Self) -> Self {
        Self {
            read: needed.read && !self.read,
            view: needed.view && !self.view,
            trigger: needed.trigger && !self.trigger,
        }
    }

    /// By its name in the web configuration file.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "read" => Some(Self::READ),
            "view" => Some(Self::VIEW),
            "trigger" => Some(Self::TRIGGER),
            _ => None,
        }
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(self.read, "read"), (self.view, "view"), (self.trigger, "trigger")];
        let held: Vec<_> = names.iter().filter(|(held, _)| *held).map(|(_, name)| *name).collect();
        f.write_str(if held.is_empty() { "none" } else { "" })?;
        f.write_str(&held.join(" and "))
    }
}

/// What an asker needs; [`Roles::NONE`] is open to all.
pub fn needed(method: &Method, path: &str) -> Roles {
    let looks = *method == Method::GET || *method == Method::HEAD;
    match path {
        "/-/healthy" | "/-/ready" => Roles::NONE,
        "/metrics" | "/api/v1/sd" => Roles::READ,
        "/api/v1/run" | "/probe" | "/-/reload" => Roles::TRIGGER,
        "/api/v1/alerts" if !looks => Roles::TRIGGER,
        // Whoever takes a capture away must also be one who may see what it was.
        path if path.starts_with("/api/v1/captures/") && !looks => Roles::VIEW.and(Roles::TRIGGER),
        _ => Roles::VIEW,
    }
}

/// The rows of the README's table: role and what it opens. A test holds them to [`needed`].
pub const TABLE: [(&str, &str); 4] = [
    ("none", "`/-/healthy`, `/-/ready`"),
    ("`read`", "`/metrics`, `/api/v1/sd`"),
    (
        "`view`",
        "`/` and all pages, `/api/v1/containers`, `/api/v1/captures` and what is below it, `GET /api/v1/alerts`; everything \
         that is not in this table",
    ),
    (
        "`trigger`",
        "`POST /api/v1/run`, `POST /api/v1/alerts`, `/probe`, `POST /-/reload`; with `view`, too: `DELETE /api/v1/captures/ID`",
    ),
];

/// The table between the README's `<!-- roles -->` marks, as Markdown, ending in a newline.
pub fn readme_table() -> String {
    let rows = TABLE.iter().map(|(role, opens)| format!("| {role} | {opens} |\n"));
    ["| role | opens |\n| --- | --- |\n".to_owned()].into_iter().chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_route_needs_what_the_table_says() {
        let (none, read, view, trigger) = (Roles::NONE, Roles::READ, Roles::VIEW, Roles::TRIGGER);
        let both = view.and(trigger);
        for (method, path, wanted) in [
            ("GET", "/-/healthy", none),
            ("HEAD", "/-/healthy", none),
            ("POST", "/-/healthy", none),
            ("GET", "/-/ready", none),
            ("GET", "/metrics", read),
            ("HEAD", "/metrics", read),
            ("GET", "/api/v1/sd", read),
            ("GET", "/", view),
            ("HEAD", "/", view),
            ("GET", "/captures/01J", view),
            ("GET", "/api/v1/containers", view),
            ("GET", "/api/v1/captures", view),
            ("GET", "/api/v1/captures/01J", view),
            ("GET", "/api/v1/captures/01J/stdout", view),
            ("HEAD", "/api/v1/captures/01J/stderr", view),
            ("DELETE", "/api/v1/captures/01J", both),
            ("POST", "/api/v1/captures/01J", both),
            ("DELETE", "/api/v1/captures/", both),
            ("GET", "/api/v1/alerts", view),
            ("HEAD", "/api/v1/alerts", view),
            ("POST", "/api/v1/alerts", trigger),
            ("PUT", "/api/v1/alerts", trigger),
            ("POST", "/api/v1/run", trigger),
            ("GET", "/api/v1/run", trigger),
            ("GET", "/probe", trigger),
            ("HEAD", "/probe", trigger),
            ("POST", "/-/reload", trigger),
            ("PUT", "/-/reload", trigger),
            // What looks like one of the above and is none.
            ("GET", "//metrics", view),
            ("GET", "/metrics/", view),
            ("GET", "/METRICS", view),
            ("GET", "/%6detrics", view),
            ("GET", "/./metrics", view),
            ("GET", "/-/healthy/", view),
            ("GET", "/-/healthy/../../metrics", view),
            ("GET", "/-/healthy%2f..%2f..%2fapi/v1/captures", view),
            ("GET", "/-/Healthy", view),
            ("GET", "/-//healthy", view),
            ("GET", "/api/v1/sd/", view),
            ("GET", "/api/v1/sd/../captures", view),
            ("POST", "/api/v1/run/", view),
            ("GET", "", view),
            ("OPTIONS", "*", view),
            ("get", "/api/v1/alerts", trigger),
            ("PURGE", "/nowhere", view),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            assert_eq!(needed(&method, path), wanted, "{method} {path}");
        }
    }

    #[test]
    fn no_role_includes_another() {
        let each = [Roles::READ, Roles::VIEW, Roles::TRIGGER];
        for (at, one) in each.iter().enumerate() {
            for (other_at, other) in each.iter().enumerate() {
                assert_eq!(one.cover(*other), at == other_at);
            }
            assert!(Roles::ALL.cover(*one) && one.cover(Roles::NONE) && !Roles::NONE.cover(*one));
            assert_eq!(Roles::named(&one.to_string()), Some(*one));
        }
        assert_eq!(Roles::READ.lacks(Roles::ALL).to_string(), "view and trigger");
        assert_eq!((Roles::NONE.to_string().as_str(), Roles::named("admin")), ("none", None));
    }
}
