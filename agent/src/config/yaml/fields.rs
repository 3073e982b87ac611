//! The fields of a struct, those too that are not written: a derived `Deserialize` gives up at a missing field, after
//! which nothing of the struct could be checked.

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::Entry;
use super::fault::Fault;
use super::read::Reader;

/// The written fields, then the absent ones.
pub(super) struct Fields<'a> {
    map: Reader<'a>,
    rest: std::vec::IntoIter<&'a Entry>,
    absent: std::vec::IntoIter<&'static str>,
    next: Option<Field<'a>>,
}

impl<'a> Fields<'a> {
    /// `given` are the entries of `map`; what they lack of `fields` is absent.
    pub(super) fn new(map: Reader<'a>, given: Vec<&'a Entry>, fields: &'static [&'static str]) -> Self {
        let is_absent = |field: &&str| !given.iter().any(|entry| entry.key == *field);
        let absent: Vec<_> = fields.iter().copied().filter(is_absent).collect();
        Self { map, rest: given.into_iter(), absent: absent.into_iter(), next: None }
    }
}

enum Field<'a> {
    Given(&'a Entry),
    Absent(&'static str),
}

impl<'a> MapAccess<'a> for Fields<'a> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let given = self.rest.next().map(Field::Given);
        self.next = given.or_else(|| self.absent.next().map(Field::Absent));
        let key = match &self.next {
            None => return Ok(None),
            Some(Field::Given(entry)) => &entry.key,
            Some(Field::Absent(key)) => *key,
        };
        seed.deserialize(BorrowedStrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        match self.next.take() {
            None => Err(de::Error::custom("a value was asked for before its key")),
            Some(Field::Given(entry)) => seed.deserialize(self.map.child(entry)),
            Some(Field::Absent(key)) => seed.deserialize(Absent { map: self.map.clone(), key }),
        }
    }
}

/// What stands at a key that is not written: nothing, for an option, and for all else a mistake.
struct Absent<'a> {
    map: Reader<'a>,
    key: &'static str,
}

impl<'de> Deserializer<'de> for Absent<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Fault> {
        self.map.record(Err(de::Error::missing_field(self.key)))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_none()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
