//! `parse: json`: jq expressions choose the rows, the value and the labels.

use super::series::{Series, scaled};
use super::{ParseError, text};
use crate::config::jq::{EvalError, Filter, Val, Work};
use crate::config::parse::JsonMetric;

/// A row whose `value` gives nothing (`empty`) is passed over; one whose value is no number, or one of whose labels
/// is an array, an object or a failure, is an error. Of several outputs the first counts.
pub(super) fn parse(
    metrics: &[JsonMetric],
    output: &[u8],
    series: &mut Series<'_>,
) -> Result<(), ParseError> {
    // One process name that is not UTF-8 must not cost all rows. serde_json stops at 128 levels; jaq's own reader
    // would overflow the stack.
    let text = String::from_utf8_lossy(output);
    let document: Val =
        serde_json::from_str(&text).map_err(|error| ParseError::NotJson(error.to_string()))?;
    let work = Work::new(Work::STEPS);
    for (rule, metric) in metrics.iter().enumerate() {
        series.noted.rule = Some(rule);
        let late = || ParseError::TooMuchWork { metric: metric.def.name.to_string() };
        for (number, row) in metric.select.outputs(document.clone(), &work).enumerate() {
            match row {
                // A row costs nothing any more when its series could not be kept.
                Ok(_) if series.is_full() => series.drop(),
                Ok(row) => {
                    series.noted.row(number, &row);
                    let mark = series.noted.mark();
                    one(metric, &row, &work, series).ok_or_else(late)?;
                    series.noted.describe(mark, &row);
                }
                Err(EvalError::Value(error)) => {
                    series.error(format_args!("{}: select: {error}", metric.def.name));
                }
                Err(EvalError::TooMuchWork) => return Err(late()),
            }
        }
    }
    Ok(())
}

/// `None` when the work is used up.
fn one(metric: &JsonMetric, row: &Val, work: &Work, series: &mut Series<'_>) -> Option<()> {
    let def = &metric.def;
    let number = match first(&metric.value, row, work) {
        Ok(None) => {
            series.noted.unmatched(format_args!("{}: `value` gives nothing for this row", def.name));
            return Some(());
        }
        Ok(Some(value)) => as_number(&value),
        Err(EvalError::Value(_)) => None,
        Err(EvalError::TooMuchWork) => return None,
    };
    let mut raw = Vec::with_capacity(metric.labels.len());
    for (name, filter) in &metric.labels {
        match first(filter, row, work) {
            Ok(None | Some(Val::Null)) => {}
            Ok(Some(Val::TStr(text) | Val::BStr(text))) => raw.push((name, text.to_vec())),
            Ok(Some(value @ (Val::Num(_) | Val::Bool(_)))) => {
                raw.push((name, value.to_string().into_bytes()));
            }
            Ok(Some(Val::Arr(_) | Val::Obj(_))) | Err(EvalError::Value(_)) => {
                series.error(format_args!("{}: label {name} is no text, number or bool", def.name));
                return Some(());
            }
            Err(EvalError::TooMuchWork) => return None,
        }
    }
    let labels = series.labels(&def.const_labels, raw.iter().map(|(name, value)| (*name, value.as_slice())));
    let family = series.family_of(def);
    series.put(family, "", labels, scaled(def, number));
    Some(())
}

fn first(filter: &Filter, row: &Val, work: &Work) -> Result<Option<Val>, EvalError> {
    filter.outputs(row.clone(), work).next().transpose()
}

fn as_number(value: &Val) -> Option<f64> {
    match value {
        // Through its text, because what a number is inside jaq is not public.
        Val::Num(number) => text::number(number.to_string().as_bytes()),
        Val::TStr(text) | Val::BStr(text) => text::number(text),
        Val::Bool(value) => Some(f64::from(u8::from(*value))),
        Val::Null | Val::Arr(_) | Val::Obj(_) => None,
    }
}
