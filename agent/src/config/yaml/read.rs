//! A serde deserializer over the tree. It differs from any other in that a mistake is *recorded* where it stands
//! (unknown and duplicate keys, wrong types) and what can still be read is read; see `Tried`.

use std::borrow::Cow;
use std::collections::HashSet;
use std::rc::Rc;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, IntoDeserializer as _, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::at::{AT, SEVERAL};
use super::choice::{Choice, Choices};
use super::fault::Fault;
use super::fields::Fields;
use super::{Entry, Kind, Node};
use crate::config::error::{Found, Place};

/// Reads `node` as a `T`, adding every mistake to `found`.
pub(crate) fn read<'a, T: Deserialize<'a>>(node: &'a Node, source: &'a str, found: &'a Found) -> Option<T> {
    let reader = Reader { node, source, found, field: "".into() };
    T::deserialize(reader).ok()
}

#[derive(Clone)]
pub(super) struct Reader<'a> {
    pub(super) node: &'a Node,
    source: &'a str,
    found: &'a Found,
    field: Rc<str>,
}

impl<'a> Reader<'a> {
    fn place(&self) -> Place {
        Place { line: self.node.line, column: self.node.column, field: self.field.clone() }
    }

    pub(super) fn record<T>(self, result: Result<T, Fault>) -> Result<T, Fault> {
        if let Err(Fault(Some(message))) = &result {
            self.found.add(&self.place(), message);
            return Err(Fault(None));
        }
        result
    }

    pub(super) fn child(&self, entry: &'a Entry) -> Self {
        let dot = if self.field.is_empty() { "" } else { "." };
        Self { node: &entry.value, field: format!("{}{dot}{}", self.field, entry.key).into(), ..self.clone() }
    }

    fn item(&self, index: usize, node: &'a Node) -> Self {
        Self { node, field: format!("{}[{index}]", self.field).into(), ..self.clone() }
    }

    /// A scalar as it is written in the file; `None` for anything else.
    fn scalar(&self) -> Option<Cow<'a, str>> {
        let written = self.source.get(self.node.bytes.clone()).filter(|text| !text.is_empty());
        match (&self.node.kind, written) {
            (Kind::Text(text), _) => Some(Cow::Borrowed(text)),
            (Kind::Null | Kind::List(_) | Kind::Map(_), _) => None,
            (_, Some(text)) => Some(Cow::Borrowed(text)),
            (Kind::Bool(value), None) => Some(value.to_string().into()),
            (Kind::Int(value), None) => Some(value.to_string().into()),
            (Kind::Unsigned(value), None) => Some(value.to_string().into()),
            (Kind::Float(value), None) => Some(value.to_string().into()),
        }
    }

    /// What is there, for messages.
    fn kind(&self) -> String {
        match &self.node.kind {
            Kind::Null => "nothing".to_owned(),
            Kind::List(_) => "a list".to_owned(),
            Kind::Map(entries) if entries.is_empty() => "an empty mapping".to_owned(),
            Kind::Map(entries) => {
                entries.iter().map(|entry| entry.key.as_str()).collect::<Vec<_>>().join(" and ")
            }
            _ => format!("{:?}", self.scalar().unwrap_or_default()),
        }
    }

    /// The entries that are worth reading: without duplicates and, where `known` is given, without unknown keys.
    fn entries(&self, entries: &'a [Entry], known: Option<&[&str]>) -> Vec<&'a Entry> {
        let mut seen = HashSet::new();
        let keep = |entry: &&'a Entry| {
            let place = Place { line: entry.line, column: entry.column, field: self.child(entry).field };
            if known.is_some_and(|known| !known.contains(&entry.key.as_str())) {
                let known = known.unwrap_or_default().join(", ");
                self.found.add(&place, format!("unknown key; the keys here are {known}"));
                return false;
            }
            let first = seen.insert(entry.key.as_str());
            if !first {
                self.found.add(&place, "given twice; remove one of the two");
            }
            first
        };
        entries.iter().filter(keep).collect()
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let result = match &self.node.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Bool(value) => visitor.visit_bool(*value),
            Kind::Int(value) => visitor.visit_i64(*value),
            Kind::Unsigned(value) => visitor.visit_u64(*value),
            Kind::Float(value) => visitor.visit_f64(*value),
            Kind::Text(text) => visitor.visit_borrowed_str(text),
            Kind::List(items) => {
                visitor.visit_seq(Items { list: self.clone(), rest: items.iter().enumerate() })
            }
            Kind::Map(entries) => {
                let rest = self.entries(entries, None).into_iter();
                visitor.visit_map(Entries { map: self.clone(), rest, value: None })
            }
        };
        self.record(result)
    }

    /// Text may be any scalar: `command: [sleep, 5]` needs no quotes.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.scalar() {
            Some(text) => self.record(visitor.visit_str(&text)),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.node.kind {
            Kind::Null => self.record(visitor.visit_none()),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        v: V,
    ) -> Result<V::Value, Fault> {
        match name {
            AT => v.visit_seq(Placed { reader: self, step: 0 }),
            SEVERAL => v.visit_seq(Choices::of(self)),
            _ => v.visit_newtype_struct(self),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let Kind::Map(entries) = &self.node.kind else {
            let message = format!("expected a mapping with the keys {}", fields.join(", "));
            return self.record(Err(Fault(Some(message))));
        };
        let given = self.entries(entries, Some(fields));
        let result = visitor.visit_map(Fields::new(self.clone(), given, fields));
        self.record(result)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        let chosen = match &self.node.kind {
            Kind::Text(text) => Some((text.as_str(), None)),
            Kind::Map(entries) => match entries.as_slice() {
                [one] => Some((one.key.as_str(), Some(self.child(one)))),
                _ => None,
            },
            _ => None,
        };
        let result = match chosen {
            Some((name, value)) if variants.contains(&name) => visitor.visit_enum(Choice { name, value }),
            _ => Err(Fault(Some(format!("expected one of {}; found {}", variants.join(", "), self.kind())))),
        };
        self.record(result)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

struct Items<'a> {
    list: Reader<'a>,
    rest: std::iter::Enumerate<std::slice::Iter<'a, Node>>,
}

impl<'a> SeqAccess<'a> for Items<'a> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some((index, node)) = self.rest.next() else { return Ok(None) };
        seed.deserialize(self.list.item(index, node)).map(Some)
    }
}

struct Entries<'a> {
    map: Reader<'a>,
    rest: std::vec::IntoIter<&'a Entry>,
    value: Option<&'a Entry>,
}

impl<'a> MapAccess<'a> for Entries<'a> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        self.value = self.rest.next();
        let Some(entry) = self.value else { return Ok(None) };
        seed.deserialize(BorrowedStrDeserializer::new(&entry.key)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let entry =
            self.value.take().ok_or_else(|| de::Error::custom("a value was asked for before its key"))?;
        seed.deserialize(self.map.child(entry))
    }
}

/// What `At` reads: line, column, field and the value, in this order.
struct Placed<'a> {
    reader: Reader<'a>,
    step: u8,
}

impl<'a> SeqAccess<'a> for Placed<'a> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        self.step += 1;
        let reader = &self.reader;
        match self.step {
            1 => seed.deserialize(reader.node.line.into_deserializer()),
            2 => seed.deserialize(reader.node.column.into_deserializer()),
            3 => seed.deserialize((&*reader.field).into_deserializer()),
            _ => seed.deserialize(reader.clone()),
        }
        .map(Some)
    }
}
