//! What a trigger that answers alerts has checked: which alerts, and to which containers their labels lead.

use std::collections::BTreeMap;
use std::time::Duration;

use globset::GlobSet;

use crate::model::ContainerLabels;

/// A label's name and value come from whoever writes alerting rules; all that is done with them is to compare.
type Labels = BTreeMap<String, String>;

#[derive(Clone, Debug)]
pub struct AlertRule {
    /// By the label's name; all must match.
    pub labels: BTreeMap<String, LabelPattern>,
    pub when: AlertWhen,
    /// When the alert is over, runs for it that wait or run are ended.
    pub cancel_on_resolve: bool,
    pub target: TargetRule,
    /// Containers in which one alert runs the probes.
    pub max_targets: usize,
    /// For so long after a run in a container, alerts do not run the same probe there again. Zero is never.
    pub cooldown: Duration,
}

impl AlertRule {
    /// The first label that keeps this rule from answering an alert with `labels`, by name.
    pub fn mismatch(&self, labels: &Labels) -> Option<(&str, &LabelPattern)> {
        let value = |name: &str| labels.get(name).map_or("", String::as_str);
        let wrong = self.labels.iter().find(|(name, pattern)| !pattern.matches(value(name)));
        wrong.map(|(name, pattern)| (name.as_str(), pattern))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlertWhen {
    Firing,
    Resolved,
    Both,
}

/// Globs of which one must match, or none if it is negated.
#[derive(Clone, Debug)]
pub struct LabelPattern {
    pub negated: bool,
    pub any: GlobSet,
    /// As it is written.
    pub text: String,
}

impl LabelPattern {
    pub fn matches(&self, value: &str) -> bool {
        self.any.is_match(value) != self.negated
    }
}

/// What of a container's names an alert must tell; an absent one matches everything.
#[derive(Clone, Debug, Default)]
pub struct TargetRule {
    pub namespace: Option<Template>,
    pub pod: Option<Template>,
    pub container: Option<Template>,
}

impl TargetRule {
    /// The fields that are there, by name, each with the container's own value.
    pub fn fields<'a>(
        &'a self,
        of: &'a ContainerLabels,
    ) -> impl Iterator<Item = (&'static str, &'a Template, &'a str)> {
        let all = [
            ("namespace", &self.namespace, &of.namespace),
            ("pod", &self.pod, &of.pod),
            ("container", &self.container, &of.container),
        ];
        all.into_iter().filter_map(|(name, template, value)| Some((name, template.as_ref()?, value.as_str())))
    }
}

/// A text with labels of an alert in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Label(String),
}

impl Template {
    /// Reads `text`; the error is what is wrong with it and what would be right.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((fixed, after)) = rest.split_once("{{") {
            let (inside, after) =
                after.split_once("}}").ok_or_else(|| format!("{text:?} has `{{{{` without `}}}}`"))?;
            let name = inside.trim();
            let name = name.strip_prefix("$labels.").unwrap_or(name);
            if !is_label(name) {
                return Err(format!(
                    "{:?} in {text:?} is not a label; write its name alone, as in {{{{pod}}}}",
                    inside.trim()
                ));
            }
            parts.extend([Part::Text(fixed.to_owned()), Part::Label(name.to_owned())]);
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        if parts.iter().any(|part| matches!(part, Part::Text(text) if text.contains("}}"))) {
            return Err(format!("{text:?} has `}}}}` without `{{{{`"));
        }
        if parts.is_empty() {
            return Err("the text is empty; leave the field out to match everything".to_owned());
        }
        Ok(Self(parts))
    }

    /// The text with the values of `labels`, or the name of the first label that is not there. To Prometheus an empty
    /// label and none are the same.
    pub fn render(&self, labels: &Labels) -> Result<String, &str> {
        self.0.iter().try_fold(String::new(), |text, part| {
            Ok(text
                + match part {
                    Part::Text(fixed) => fixed,
                    Part::Label(name) => {
                        labels.get(name).filter(|value| !value.is_empty()).ok_or(name.as_str())?
                    }
                })
        })
    }
}

/// Letters and digits, `_`, and what else Prometheus 3 has in names that OpenTelemetry made.
pub(super) fn is_label(name: &str) -> bool {
    name.len() <= 200
        && name.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_alphanumeric() || "_.-/:".contains(c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn templates() {
        let alert = labels(&[("pod", "cart-0"), ("ns", "shop"), ("empty", ""), ("k8s.pod/name", "x")]);
        for (text, says) in [
            ("{{pod}}", Ok("cart-0")),
            ("{{ pod }}", Ok("cart-0")),
            ("{{ $labels.pod }}", Ok("cart-0")),
            ("{{$labels.pod}}", Ok("cart-0")),
            ("a-{{ns}}/{{pod}}-{z}", Ok("a-shop/cart-0-{z}")),
            ("{{k8s.pod/name}}", Ok("x")),
            ("fixed", Ok("fixed")),
            ("{{ns}}{{node}}{{other}}", Err("node")),
            ("{{empty}}", Err("empty")),
        ] {
            assert_eq!(
                Template::parse(text).unwrap().render(&alert).as_deref(),
                says.as_ref().copied(),
                "{text}"
            );
        }
        for (text, says) in [
            ("", "is empty"),
            ("{{", "without `}}`"),
            ("{{pod", "without `}}`"),
            ("pod}}", "without `{{`"),
            ("{{pod}}}}", "without `{{`"),
            ("{{}}", "\"\" in"),
            ("{{ .Labels.pod }}", "not a label"),
            ("{{ pod | toLower }}", "not a label"),
            ("{{ $labels.$pod }}", "not a label"),
            ("{{ {{pod}} }}", "not a label"),
        ] {
            let error = Template::parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_template_or_a_message(text in "([{}]{1,2}|pod|\\$labels\\.| |é|\\*){0,8}") {
            match Template::parse(&text) {
                Ok(template) => _ = template.render(&labels(&[("pod", "p")])),
                Err(message) => prop_assert!(!message.is_empty()),
            }
        }

        /// A value is never read again: not as a template, and not as a glob.
        #[test]
        fn a_value_stands_as_it_is(value in "[*?!|{}a-z]{1,12}|.{1,12}") {
            let template = Template::parse("{{pod}}").unwrap();
            prop_assert_eq!(template.render(&labels(&[("pod", &value)])), Ok(value.clone()));
        }
    }
}
