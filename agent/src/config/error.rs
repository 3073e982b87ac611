//! What can be wrong with a configuration and how it is said: `file:line:column: field: what; what would be right`.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Why a configuration was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the configuration {} is {what}; name a regular file of at most 1 MiB of UTF-8 text", path.display())]
    NotText { path: PathBuf, what: &'static str },
    /// Whoever can write the file can run commands as the agent's user.
    #[error(
        "the configuration {} is {why}; its commands run as root, so make it root's own: \
         chown root {file} && chmod go-w {file}", path.display(), file = path.display()
    )]
    Untrusted { path: PathBuf, why: String },
    #[error("{0}")]
    Mistakes(#[from] Mistakes),
}

/// Everything that is wrong in one file, in the order of its lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes {
    file: PathBuf,
    all: Vec<Mistake>,
}

impl Mistakes {
    pub(super) fn new(file: &Path, mut all: Vec<Mistake>) -> Self {
        all.sort_by(|a, b| (a.line, a.column, &a.text).cmp(&(b.line, b.column, &b.text)));
        all.dedup();
        Self { file: file.to_owned(), all }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.all.iter()
    }
}

/// One mistake per line.
impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.all.iter().enumerate() {
            let newline = if i == 0 { "" } else { "\n" };
            write!(f, "{newline}{}:{mistake}", self.file.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for Mistakes {}

/// One mistake: where it is, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Counted from 1; both are 0 when the mistake has no place in the text.
    pub line: u64,
    pub column: u64,
    /// `field: what is wrong; what would be right`.
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            return write!(f, " {}", self.text);
        }
        write!(f, "{}:{}: {}", self.line, self.column, self.text)
    }
}

/// Where a value stands in the file, and under which keys: `probes.sockets.parse.regex[0].name`.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) column: u64,
    pub(super) field: Rc<str>,
}

/// The mistakes found so far. Reading and checking add to it and go on, so that one look finds them all.
#[derive(Debug, Default)]
pub(super) struct Found(RefCell<Vec<Mistake>>);

impl Found {
    pub(super) fn add(&self, place: &Place, message: impl fmt::Display) {
        let text = match &*place.field {
            "" => message.to_string(),
            field => format!("{field}: {message}"),
        };
        self.0.borrow_mut().push(Mistake { line: place.line, column: place.column, text });
    }

    /// Adds the error's message, if it is one, and hands out the value otherwise.
    pub(super) fn ok<T>(&self, place: &Place, result: Result<T, impl fmt::Display>) -> Option<T> {
        result.map_err(|message| self.add(place, message)).ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    pub(super) fn into_vec(self) -> Vec<Mistake> {
        self.0.into_inner()
    }
}
