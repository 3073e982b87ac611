//! The error that the reader raises, in the words of somebody who writes YAML.

use std::fmt;

use serde::de::{self, Expected, Unexpected};

/// The message is `Some` until it is recorded: the innermost value knows the place best.
#[derive(Debug)]
pub(super) struct Fault(pub(super) Option<String>);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("already recorded"))
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(Some(message.to_string()))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        // serde speaks of Rust's types; the reader of the message writes YAML.
        let expected = match expected.to_string().as_str() {
            "f64" => "a number".to_owned(),
            "usize" | "u64" => "a whole number, 0 or more".to_owned(),
            "a boolean" => "true or false".to_owned(),
            "a sequence" => "a list such as [a, b]".to_owned(),
            "a string" => "text".to_owned(),
            other => other.to_owned(),
        };
        let found = match found {
            Unexpected::Unit => "nothing".to_owned(),
            Unexpected::Seq => "a list".to_owned(),
            Unexpected::Map => "a mapping".to_owned(),
            Unexpected::Str(text) => format!("{text:?}"),
            other => other.to_string(),
        };
        Self(Some(format!("expected {expected}, found {found}")))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn missing_field(field: &'static str) -> Self {
        Self(Some(format!("`{field}` is missing; add it")))
    }
}
