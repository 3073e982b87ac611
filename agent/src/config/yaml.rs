//! YAML text as a tree whose every node knows its line and column. It exists because a streaming reader stops at
//! the first mistake: with the tree in hand, `yaml::read` reports one and goes on to the next.

pub(super) mod at;
mod choice;
mod fault;
mod fields;
pub(super) mod read;

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Location, Spanned};

use super::error::Place;

/// One value of the document.
#[derive(Debug)]
pub(super) struct Node {
    line: u64,
    column: u64,
    /// The value's bytes in the text: a number is shown as it was written, not as it was understood.
    bytes: Range<usize>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Null,
    Bool(bool),
    Int(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the text, duplicates included: `read` reports them.
    Map(Vec<Entry>),
}

#[derive(Debug)]
struct Entry {
    key: String,
    line: u64,
    column: u64,
    value: Node,
}

/// Reads one document. `Err` is a mistake in the YAML itself, after which nothing more can be said of the file.
pub(super) fn parse(text: &str) -> Result<Node, (Place, String)> {
    let options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        with_snippet: false,
        // A configuration has hundreds of nodes; these stop a document that is built to explode, not a large one.
        budget: serde_saphyr::budget! {
            max_depth: 24,
            max_nodes: 50_000,
            max_events: 200_000,
            max_anchors: 100,
            max_aliases: 1_000,
            max_merge_keys: 1_000,
            max_documents: 2,
        },
    };
    let root: Spanned<Kind> = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let at = error.location().unwrap_or(Location::UNKNOWN);
        let place = Place { line: at.line(), column: at.column(), field: "".into() };
        (place, describe(&error))
    })?;
    Ok(Node::new(root))
}

/// The library's message on one line, without the position that the caller prints in front of it.
fn describe(error: &serde_saphyr::Error) -> String {
    if let serde_saphyr::Error::MultipleDocuments { .. } = error.without_snippet() {
        return "a second document starts here; a configuration is one document".to_owned();
    }
    let text = error.without_snippet().to_string();
    let first = text.lines().next().unwrap_or_default().trim();
    let message = first.strip_prefix("error: ").unwrap_or(first);
    let end = message.find(" at line ").unwrap_or(message.len());
    match &message[..end] {
        over if over.starts_with("budget breached") => format!("larger than a configuration can be: {over}"),
        wrong => format!("not valid YAML: {wrong}"),
    }
}

impl Node {
    fn new(spanned: Spanned<Kind>) -> Self {
        let (at, span) = (spanned.referenced, spanned.defined.span());
        let bytes = |count: Option<u64>| count.and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
        let start = bytes(span.byte_offset());
        let end = start + bytes(span.byte_len());
        Self { line: at.line(), column: at.column(), bytes: start..end, kind: spanned.value }
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Unsigned(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Kind, E> {
        Ok(Kind::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(Node::new(item));
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Kind, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let (line, column) = (key.referenced.line(), key.referenced.column());
            let mut value = Node::new(map.next_value()?);
            // A block that hangs below its key is looked for at the key, not at its own first line.
            if value.line > line {
                (value.line, value.column) = (line, column);
            }
            entries.push(Entry { key: key.value, line, column, value });
        }
        Ok(Kind::Map(entries))
    }
}

/// True when there is nothing but comments and white space.
pub(super) fn is_empty(text: &str) -> bool {
    text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#') || line == "---")
}
