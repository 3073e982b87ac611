//! Enums: one variant, its name as the key and its value below; or several, where one would be right.

use serde::de::value::{EnumAccessDeserializer, StrDeserializer};
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer as _, SeqAccess, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::fault::Fault;
use super::read::Reader;
use super::{Entry, Kind};

/// An externally tagged enum: the variant's name, and what stands below it.
pub(super) struct Choice<'a> {
    pub(super) name: &'a str,
    pub(super) value: Option<Reader<'a>>,
}

impl<'a> EnumAccess<'a> for Choice<'a> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'a>>(self, seed: S) -> Result<(S::Value, Self), Fault> {
        let name: StrDeserializer<'_, Fault> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'a> VariantAccess<'a> for Choice<'a> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        match self.value {
            None => Ok(()),
            Some(reader) => {
                reader.record(Err(Fault(Some(format!("write just `{}`, with nothing below it", self.name)))))
            }
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'a>>(self, seed: S) -> Result<S::Value, Fault> {
        match self.value {
            Some(reader) => seed.deserialize(reader),
            None => seed.deserialize(Bare { name: self.name }),
        }
    }

    fn tuple_variant<V: Visitor<'a>>(self, _len: usize, _visitor: V) -> Result<V::Value, Fault> {
        Err(de::Error::custom("the grammar has no tuple variants"))
    }

    fn struct_variant<V: Visitor<'a>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Fault> {
        Err(de::Error::custom("the grammar has no struct variants"))
    }
}

/// What stands below a variant that is written as a bare word.
struct Bare<'a> {
    name: &'a str,
}

impl<'de> Deserializer<'de> for Bare<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Fault> {
        Err(Fault(Some(format!("`{}` needs a value below it", self.name))))
    }

    /// A struct of which something is required is an `At` in the grammar, so here nothing is.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Fault> {
        Err(Fault(Some(format!("`{0}` needs a mapping below it; write `{0}: {{}}`", self.name))))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// What `Several` reads: the value as a whole, which says what is wrong unless it is one variant, and then, where
/// it is more, each by itself.
pub(super) struct Choices<'a> {
    whole: Option<Reader<'a>>,
    reader: Reader<'a>,
    rest: std::slice::Iter<'a, Entry>,
}

impl<'a> Choices<'a> {
    pub(super) fn of(reader: Reader<'a>) -> Self {
        let entries = match &reader.node.kind {
            Kind::Map(entries) if entries.len() > 1 => entries.as_slice(),
            _ => &[],
        };
        Self { whole: Some(reader.clone()), reader, rest: entries.iter() }
    }
}

impl<'a> SeqAccess<'a> for Choices<'a> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        if let Some(whole) = self.whole.take() {
            return seed.deserialize(whole).map(Some);
        }
        let Some(entry) = self.rest.next() else { return Ok(None) };
        let choice = Choice { name: &entry.key, value: Some(self.reader.child(entry)) };
        seed.deserialize(EnumAccessDeserializer::new(choice)).map(Some)
    }
}
