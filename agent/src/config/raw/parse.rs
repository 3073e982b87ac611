//! A probe's `parse:` section as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::yaml::at::{At, Tried};

/// Exactly one of these.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum RawParse {
    /// Regular expressions with named groups (RE2-like syntax, linear time).
    Regex(At<Vec<Tried<At<RawRegex>>>>),
    /// jq expressions on JSON output.
    Json(At<Vec<Tried<At<RawJson>>>>),
    /// Lines of `name value`, `name: value` or `name=value`.
    Keyvalue(At<Vec<Tried<At<RawKeyvalue>>>>),
    /// Rows of columns.
    Table(At<RawTable>),
    /// The command prints Prometheus' text format: each series is passed through, checked, with the container's
    /// labels added.
    Prometheus(RawPrometheus),
    /// No metrics.
    None,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum RawKind {
    /// A value that only grows, until what counts it starts again; its name ends in `_total`.
    Counter,
    /// A value that goes up and down.
    Gauge,
}

/// Makes one kind of metric's struct: the keys that all kinds have, and then its own. A flattened struct would be
/// shorter but serde reads through a buffer then, which loses the places of the mistakes.
macro_rules! raw_metric {
    ($(#[$doc:meta])* $name:ident { $($own:tt)* }) => {
        $(#[$doc])*
        #[derive(Debug, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub(in crate::config) struct $name {
            /// Name of the metric, in snake_case with its base unit: `app_queue_bytes`, `app_retries_total`.
            pub(in crate::config) name: Tried<At<String>>,
            /// gauge or counter.
            #[serde(rename = "type")]
            pub(in crate::config) kind: Tried<RawKind>,
            /// One sentence on what is measured, shown in dashboards.
            pub(in crate::config) help: Tried<At<String>>,
            /// Each value is multiplied by this: 0.001 turns milliseconds into seconds. Default 1.
            #[serde(default)]
            pub(in crate::config) scale: Option<Tried<At<f64>>>,
            /// Labels with a fixed value on every series of this metric.
            #[serde(default)]
            pub(in crate::config) const_labels: Option<Tried<RawLabels>>,
            $($own)*
        }

        impl $name {
            pub(in crate::config) fn common(&self) -> Common<'_> {
                Common {
                    name: self.name.get(),
                    kind: self.kind.get().copied(),
                    help: self.help.get(),
                    scale: self.scale.as_ref(),
                    const_labels: self.const_labels.as_ref().and_then(Tried::get),
                }
            }
        }
    };
}

/// Label name to what gives its value.
pub(in crate::config) type RawLabels = BTreeMap<String, Tried<At<String>>>;

/// The keys that every kind of metric has.
pub(in crate::config) struct Common<'a> {
    pub(in crate::config) name: Option<&'a At<String>>,
    pub(in crate::config) kind: Option<RawKind>,
    pub(in crate::config) help: Option<&'a At<String>>,
    pub(in crate::config) scale: Option<&'a Tried<At<f64>>>,
    pub(in crate::config) const_labels: Option<&'a RawLabels>,
}

raw_metric! {
    /// With `group_label`, each named group is a series; with `value`, that group is the value and the other named
    /// groups are labels; with neither, the matches are counted and the named groups are labels.
    RawRegex {
        /// The regular expression; groups are named as in `(?P<state>\w+)`.
        pub(in crate::config) pattern: Tried<At<String>>,
        /// Whether the pattern sees line by line or the whole output. Default line.
        #[serde(default)]
        pub(in crate::config) scope: Option<Tried<RawScope>>,
        /// Label that says which named group a series' value comes from.
        #[serde(default)]
        pub(in crate::config) group_label: Option<Tried<At<String>>>,
        /// Named group that holds the value.
        #[serde(default)]
        pub(in crate::config) value: Option<Tried<At<String>>>,
        /// What becomes of several values with the same labels. Without it the first counts, and each later one is an error.
        #[serde(default)]
        pub(in crate::config) aggregate: Option<Tried<At<RawMerge>>>,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum RawMerge {
    Sum,
    Max,
    Min,
}

#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum RawScope {
    Line,
    Whole,
}

raw_metric! {
    /// `select` yields rows; `value` and each of `labels` is evaluated on each row.
    RawJson {
        /// jq expression that yields the rows, such as `.[]`. Default `.`, one row.
        #[serde(default)]
        pub(in crate::config) select: Option<Tried<At<String>>>,
        /// jq expression that gives the number.
        pub(in crate::config) value: Tried<At<String>>,
        /// Label name to jq expression.
        #[serde(default)]
        pub(in crate::config) labels: Option<Tried<RawLabels>>,
    }
}

raw_metric! {
    /// Either one `key`, or all `keys` that match a glob, told apart by the label `key_label`.
    RawKeyvalue {
        /// The key to read.
        #[serde(default)]
        pub(in crate::config) key: Option<Tried<At<String>>>,
        /// Glob on keys: each that matches is a series.
        #[serde(default)]
        pub(in crate::config) keys: Option<Tried<At<String>>>,
        /// Label that holds the key, with `keys`.
        #[serde(default)]
        pub(in crate::config) key_label: Option<Tried<At<String>>>,
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawTable {
    /// Lines to pass over before the header, or before the first row where `columns` is given. Default 0.
    #[serde(default)]
    pub(in crate::config) skip: Option<Tried<At<u64>>>,
    /// Names of the columns, where the output has no header line.
    #[serde(default)]
    pub(in crate::config) columns: Option<Tried<At<Vec<Tried<String>>>>>,
    /// One character between columns. Default: any white space, the last column taking the rest of the line.
    #[serde(default)]
    pub(in crate::config) separator: Option<Tried<At<String>>>,
    pub(in crate::config) metrics: Tried<At<Vec<Tried<At<RawColumn>>>>>,
}

raw_metric! {
    /// `value` alone: one series per row. `aggregate: count`: rows per set of labels. `aggregate: sum`, `max` or `min`
    /// with `value`: that column's sum, largest or smallest value per set of labels.
    RawColumn {
        /// Column that holds the number.
        #[serde(default)]
        pub(in crate::config) value: Option<Tried<At<String>>>,
        #[serde(default)]
        pub(in crate::config) aggregate: Option<Tried<At<RawAggregate>>>,
        /// Label name to column name.
        #[serde(default)]
        pub(in crate::config) labels: Option<Tried<RawLabels>>,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::config) enum RawAggregate {
    Count,
    Sum,
    Max,
    Min,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawPrometheus {
    /// Only metrics whose names start with this. Default: all.
    #[serde(default)]
    pub(in crate::config) prefix: Option<Tried<At<String>>>,
}
