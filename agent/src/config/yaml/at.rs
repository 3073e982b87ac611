//! The wrappers that the raw structs are made of: a value with its place, a value that may have failed alone, and
//! several values where one is right.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};

use crate::config::error::Place;

/// A value together with its place in the file.
#[derive(Clone, Debug)]
pub(crate) struct At<T> {
    pub(crate) place: Place,
    pub(crate) value: T,
}

/// A value that could not be read is `None` here, and its mistake is recorded; its neighbours are read on.
#[derive(Clone, Debug)]
pub(crate) struct Tried<T>(pub(crate) Option<T>);

/// An enum of which exactly one variant is to be written. More than one is a mistake, which is recorded, and then
/// all of them are here, so that what stands below each is checked all the same.
#[derive(Clone, Debug)]
pub(crate) struct Several<T>(pub(crate) Vec<T>);

/// The name under which `At` asks for its place; no struct of the grammar has it.
pub(super) const AT: &str = "parachute::At";
/// The same for `Several`.
pub(super) const SEVERAL: &str = "parachute::Several";

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AtVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for AtVisitor<T> {
            type Value = At<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value read by config::yaml")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<At<T>, A::Error> {
                let mut missing = || de::Error::invalid_length(0, &"a line, a column, a field and a value");
                let line = seq.next_element()?.ok_or_else(&mut missing)?;
                let column = seq.next_element()?.ok_or_else(&mut missing)?;
                let field: String = seq.next_element()?.ok_or_else(&mut missing)?;
                let value = seq.next_element()?.ok_or_else(&mut missing)?;
                Ok(At { place: Place { line, column, field: field.into() }, value })
            }
        }

        deserializer.deserialize_newtype_struct(AT, AtVisitor(PhantomData))
    }
}

impl<T> Tried<T> {
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_ref()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Tried<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The reader has recorded the mistake when it raised it; a key that is missing is raised by it, too.
        Ok(Tried(T::deserialize(deserializer).ok()))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Several<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SeveralVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for SeveralVisitor<T> {
            type Value = Several<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value read by config::yaml")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Several<T>, A::Error> {
                let mut read = Vec::new();
                while let Some(Tried(one)) = seq.next_element()? {
                    read.extend(one);
                }
                Ok(Several(read))
            }
        }

        deserializer.deserialize_newtype_struct(SEVERAL, SeveralVisitor(PhantomData))
    }
}

/// In the schema no wrapper is seen.
macro_rules! same_schema {
    ($wrapper:ident) => {
        impl<T: JsonSchema> JsonSchema for $wrapper<T> {
            fn inline_schema() -> bool {
                T::inline_schema()
            }
            fn schema_name() -> Cow<'static, str> {
                T::schema_name()
            }
            fn schema_id() -> Cow<'static, str> {
                T::schema_id()
            }
            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                T::json_schema(generator)
            }
        }
    };
}
same_schema!(At);
same_schema!(Tried);
same_schema!(Several);
