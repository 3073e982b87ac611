//! Which configuration is meant: a file, or the one that is built in. Agent and launcher each load it by themselves.

use std::fmt;
use std::path::{Path, PathBuf};

use super::{Config, ConfigError, from_str, include, load};

/// Read without `--config.file` if it exists.
const USUAL: &str = "/etc/parachute/parachute.yml";
/// What a node without a configuration runs.
const BUILT_IN: &str = include_str!(concat!(env!("OUT_DIR"), "/parachute.example.yml"));

/// A configuration must have a probe. This program is there, and nothing triggers it.
const BARE: &str = "probes: { nothing: { command: [/proc/self/exe], isolation: joined, parse: none } }";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    File(PathBuf),
    BuiltIn,
    /// For who only looks: nothing in it can be missing on a host.
    Bare,
}

impl Source {
    /// The named file, else the usual one if it exists, else what is built in.
    pub fn of(named: Option<PathBuf>) -> Self {
        let usual = || Path::new(USUAL).exists().then(|| PathBuf::from(USUAL));
        // Absolute, since the launcher reads it too, at a reload from another working directory. An empty path has no
        // absolute form; it is refused when it is read.
        let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
        named.or_else(usual).map(absolute).map_or(Self::BuiltIn, Self::File)
    }

    pub fn load(&self) -> Result<Config, ConfigError> {
        match self {
            Self::File(path) => load(path),
            Self::BuiltIn => Ok(from_str(BUILT_IN, Path::new("built-in configuration"))?),
            Self::Bare => Ok(from_str(BARE, Path::new("bare configuration"))?),
        }
    }

    /// As in [`Config::digest`], of the text as it is, in hexadecimal; none where it cannot be read.
    pub fn digest(&self) -> Option<String> {
        let read;
        let text = match self {
            Self::File(path) => {
                read = std::fs::read(path).ok()?;
                read.as_slice()
            }
            Self::BuiltIn => BUILT_IN.as_bytes(),
            Self::Bare => BARE.as_bytes(),
        };
        Some(Self::hex(&include::digest(text)))
    }

    pub fn hex(digest: &[u8; 32]) -> String {
        digest.iter().fold(String::new(), |all, byte| format!("{all}{byte:02x}"))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::BuiltIn => f.write_str("the built-in configuration"),
            Self::Bare => f.write_str("no configuration"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_is_the_same_file_from_everywhere() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(Source::of(Some("p.yml".into())), Source::File(here.join("p.yml")));
        assert_eq!(Source::of(Some("/etc/p.yml".into())), Source::File("/etc/p.yml".into()));
    }

    #[test]
    fn the_built_in_configuration_has_no_mistake() {
        for source in [Source::BuiltIn, Source::Bare] {
            let config = source.load().map_err(|e| e.to_string()).unwrap();
            assert_eq!(source.digest(), Some(Source::hex(&config.digest)));
        }
    }
}
