//! `targets:`: what is looked into besides the containers of runtimes, and which of them a cgroup belongs to. Pure.
//!
//! A name counts only where the host itself has given it: a unit's below slices alone, LXC's at the root or below slices.
//! Whoever may make cgroups below a place of its own can name them as it likes, and is not believed.

use std::path::PathBuf;

use globset::GlobMatcher;

use crate::model::Runtime;

/// The longest name that is shown whole, in bytes; a unit's has at most 255.
const LONGEST_NAME: usize = 512;

/// How scopes in `machine.slice` begin that are no machines of nspawn's: containers of Podman's and Buildah's with what belongs
/// to them, and libvirt's virtual machines, in which is another kernel's.
const OTHERS: [&str; 5] = ["libpod-", "buildah-", "crun-", "runc-", r"machine-qemu\x2d"];

/// Empty unless the configuration names some.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    pub services: Vec<GlobMatcher>,
    pub machines: Vec<GlobMatcher>,
    pub lxc: Vec<GlobMatcher>,
    pub cgroups: Vec<GlobMatcher>,
    pub pid_files: Vec<PathBuf>,
}

/// What a cgroup's path says of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aimed {
    /// By which it is known: a unit's, a machine's, a container's, or the path itself.
    pub name: String,
    pub kind: Runtime,
    /// Bytes of the path up to the end of the target's own component.
    pub end: usize,
}

impl Targets {
    /// The patterns of cgroups, with the key that they stand under and the kind that they name.
    fn keys(&self) -> [(&'static str, Runtime, &[GlobMatcher]); 4] {
        [
            ("services", Runtime::Systemd, &self.services),
            ("machines", Runtime::Nspawn, &self.machines),
            ("lxc", Runtime::Lxc, &self.lxc),
            ("cgroups", Runtime::Cgroup, &self.cgroups),
        ]
    }

    /// Every pattern but those of pid files, with its key and how many of `found` it names.
    pub fn matched(&self, found: &[(Runtime, &str)]) -> Vec<(&'static str, String, usize)> {
        let count = |of: Runtime, glob: &GlobMatcher| {
            found.iter().filter(|(kind, name)| *kind == of && glob.is_match(name)).count()
        };
        let keys = self.keys().into_iter();
        keys.flat_map(|(key, of, globs)| globs.iter().map(move |glob| (key, of, glob)))
            .map(|(key, of, glob)| (key, glob.glob().glob().to_owned(), count(of, glob)))
            .collect()
    }

    /// As they are written: a key and its patterns.
    pub fn written(&self) -> Vec<String> {
        let globs = |globs: &[GlobMatcher]| globs.iter().map(|glob| glob.glob().glob().to_owned()).collect();
        let files = self.pid_files.iter().map(|path| path.display().to_string()).collect();
        let keys = self.keys().map(|(key, _, all)| (key, globs(all))).into_iter();
        keys.chain([("pid_files", files)])
            .filter(|(_, all): &(_, Vec<String>)| !all.is_empty())
            .map(|(key, all)| format!("{key} {}", all.join(", ")))
            .collect()
    }

    /// Whether any cgroup can be one.
    pub fn has_cgroups(&self) -> bool {
        self.keys().iter().any(|(_, _, all)| !all.is_empty())
    }

    /// The outermost target on this path.
    pub fn aimed(&self, path: &str) -> Option<Aimed> {
        if !self.has_cgroups() {
            return None;
        }
        let (mut end, mut parent, mut all_slices) = (0, "", true);
        for component in path.split('/') {
            end += component.len();
            let so_far = path.get(..end).unwrap_or_default();
            if !component.is_empty() {
                let aimed = |kind, name: &str| Aimed { name: shown(name), kind, end };
                if let Some((kind, name)) = all_slices.then(|| self.named(component, parent)).flatten() {
                    return Some(aimed(kind, &name));
                }
                if matches_any(&self.cgroups, so_far) {
                    return Some(aimed(Runtime::Cgroup, so_far));
                }
                // LXC before 4 had a folder for all of them.
                let is_folder = so_far == "/lxc" || so_far == "/lxc.payload";
                all_slices &= component.strip_suffix(".slice").is_some() || is_folder;
                parent = component;
            }
            end += 1;
        }
        None
    }

    /// A component that is below nothing but slices.
    fn named(&self, component: &str, parent: &str) -> Option<(Runtime, String)> {
        if let Some(unit) = component.strip_suffix(".service") {
            let machine = unit.strip_prefix("systemd-nspawn@").and_then(unescaped);
            return match machine.filter(|name| matches_any(&self.machines, name)) {
                Some(name) => Some((Runtime::Nspawn, name)),
                None if matches_any(&self.services, component) => {
                    Some((Runtime::Systemd, component.to_owned()))
                }
                None => None,
            };
        }
        if let Some(scope) = component.strip_suffix(".scope") {
            if parent != "machine.slice" || OTHERS.iter().any(|other| scope.starts_with(other)) {
                return None;
            }
            // machined's and libvirt's begin so. From systemd 259 on, and without machined, a machine's is called as the
            // machine (`allocate_scope` in src/nspawn/nspawn-register.c).
            let name = unescaped(scope.strip_prefix("machine-").unwrap_or(scope))?;
            return matches_any(&self.machines, &name).then_some((Runtime::Nspawn, name));
        }
        let name = match parent {
            "lxc" | "lxc.payload" => component,
            _ => component.strip_prefix("lxc.payload.")?,
        };
        matches_any(&self.lxc, name).then(|| (Runtime::Lxc, name.to_owned()))
    }
}

fn matches_any(globs: &[GlobMatcher], text: &str) -> bool {
    globs.iter().any(|glob| glob.is_match(text))
}

/// As `systemd-escape` has it: `\x2d` for a byte, and `-` for a slash, which no machine's name has.
fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        match (first, after) {
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digits = [*high, *low];
                bytes.push(u8::from_str_radix(str::from_utf8(&digits).ok()?, 16).ok()?);
                rest = after;
            }
            (b'\\', _) => return None,
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok().filter(|name| !name.is_empty())
}

/// Whole, or if it is too long cut at a character's edge, with the number of all its bytes for a tail.
fn shown(name: &str) -> String {
    match name.get(..name.floor_char_boundary(LONGEST_NAME)) {
        Some(start) if start.len() < name.len() => format!("{start}…{}", name.len()),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn targets(text: &str) -> Targets {
        let text = format!("targets: {text}\nprobes: {{ p: {{ command: [/bin/true], parse: none }} }}\n");
        crate::config::from_str(&text, std::path::Path::new("p.yml")).unwrap().targets.as_ref().clone()
    }

    /// Path, kind, name, and the length of the target's part; `-` for none.
    const PATHS: &str = include_str!("../../../tests/fixtures/cgroup/targets.tsv");
    const ALL: &str = r#"{ services: ["nginx.service", "app@*.service", 'a\x2db.service', "evil*.service", "user@*.service"],
        machines: ["*"], lxc: ["web*", "c1"], cgroups: ["/batch/*", "/one"] }"#;

    #[test]
    fn paths_lead_to_the_targets_that_are_named() {
        let targets = targets(ALL);
        let mut rows = 0;
        for line in PATHS.lines().filter(|line| !line.starts_with('#')) {
            let columns: Vec<&str> = line.split('\t').collect();
            let [path, kind, name, own] = columns[..] else { panic!("not four columns: {line}") };
            let found = targets
                .aimed(path)
                .map(|aimed| (aimed.kind.as_str().to_owned(), aimed.name, path[..aimed.end].to_owned()));
            let expected = (kind != "-").then(|| (kind.to_owned(), name.to_owned(), own.to_owned()));
            assert_eq!(found, expected, "{path}");
            rows += 1;
        }
        assert!(rows > 40, "only {rows} rows were read");
    }

    #[test]
    fn without_targets_nothing_is_one() {
        assert_eq!(Targets::default().aimed("/system.slice/nginx.service"), None);
    }

    #[test]
    fn each_pattern_is_counted() {
        let targets =
            targets(r#"{ services: ["a*.service", "b.service"], lxc: ["a*"], pid_files: [/run/x.pid] }"#);
        let found = [(Runtime::Systemd, "a1.service"), (Runtime::Systemd, "a2.service"), (Runtime::Lxc, "b")];
        let counts: Vec<_> =
            targets.matched(&found).into_iter().map(|(key, _, count)| (key, count)).collect();
        assert_eq!(counts, [("services", 2), ("services", 0), ("lxc", 0)]);
        assert_eq!(targets.written(), ["services a*.service, b.service", "lxc a*", "pid_files /run/x.pid"]);
    }

    #[test]
    fn long_names_are_cut_and_stay_apart() {
        let targets = targets(r#"{ cgroups: ["/batch/*"] }"#);
        let name = |length: usize| targets.aimed(&format!("/batch/{}", "é".repeat(length))).unwrap().name;
        assert_eq!(name(100), format!("/batch/{}", "é".repeat(100)));
        assert!(name(400).len() < LONGEST_NAME + 16 && name(400) != name(401), "{}", name(400));
    }

    #[test]
    fn machines_names_are_unescaped() {
        for (text, name) in [
            ("web", Some("web")),
            (r"my\x2dweb", Some("my-web")),
            (r"a\x2", None),
            (r"a\xzz", None),
            (r"\xff", None),
            ("", None),
        ] {
            assert_eq!(unescaped(text).as_deref(), name, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_path_panics_it(path in "\\PC*") {
            let _ = targets(ALL).aimed(&path);
        }

        #[test]
        fn what_is_below_never_changes_the_answer(below in "[a-z0-9@.:_/-]{0,100}") {
            let targets = targets(ALL);
            for own in
                ["/system.slice/nginx.service", "/lxc.payload.web1", "/machine.slice/web.scope", "/batch/x"]
            {
                prop_assert_eq!(targets.aimed(&format!("{own}/{below}")), targets.aimed(own));
            }
        }
    }
}
