//! What stands behind the `?` of an address.

/// Names and values in the order in which they were given.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(pub(super) Vec<(String, String)>);

impl Query {
    /// The first value of that name that is not empty: a form sends its empty fields, too.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(given, value)| given == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// An error for a name that is none of `known`: a mistyped filter would otherwise show everything.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), String> {
        match self.0.iter().find(|(given, _)| !known.contains(&given.as_str())) {
            Some((given, _)) => Err(format!("unknown parameter {given:?}; there are {}", known.join(", "))),
            None => Ok(()),
        }
    }

    /// A whole number up to `most`, or `otherwise`.
    pub(super) fn number(&self, name: &str, otherwise: usize, most: usize) -> Result<usize, String> {
        match self.get(name).map(str::parse) {
            None => Ok(otherwise),
            Some(Ok(number)) if (1..=most).contains(&number) => Ok(number),
            Some(_) => Err(format!("{name} must be a whole number from 1 to {most}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_are_told() {
        let query = |pairs: &[(&str, &str)]| {
            Query(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        let asked = query(&[("pod", ""), ("pod", "a"), ("pod", "b"), ("limit", "7")]);
        assert_eq!((asked.get("pod"), asked.get("namespace")), (Some("a"), None));
        assert_eq!((asked.number("limit", 5, 10), asked.number("page", 5, 10)), (Ok(7), Ok(5)));
        for bad in ["0", "11", "-1", "x", "1.5", "99999999999999999999"] {
            let error = query(&[("limit", bad)]).number("limit", 5, 10).unwrap_err();
            assert_eq!(error, "limit must be a whole number from 1 to 10", "{bad}");
        }
        assert!(asked.only(&["pod", "limit"]).is_ok());
        assert_eq!(asked.only(&["pod"]).unwrap_err(), "unknown parameter \"limit\"; there are pod");
    }
}
