//! The two wrappers that the raw structs are made of: a value with its place, and a value that may have failed alone.

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

/// The name under which `At` asks for its place; no struct of the grammar has it.
pub(super) const AT: &str = "parachute::At";

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

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Tried<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TriedVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for TriedVisitor<T> {
            type Value = Tried<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value read by config::yaml")
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(
                self,
                deserializer: D,
            ) -> Result<Tried<T>, D::Error> {
                // The reader has recorded the mistake when it raised it.
                Ok(Tried(T::deserialize(deserializer).ok()))
            }
        }

        // Asking for a newtype makes a missing key fail here, not in `T`, where it would pass for a recorded one.
        deserializer.deserialize_newtype_struct("parachute::Tried", TriedVisitor(PhantomData))
    }
}

/// In the schema neither wrapper is seen.
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
