//! `parse: table`: rows of columns, named by a header line or by the configuration.

use std::collections::HashMap;

use super::series::{Series, scaled};
use super::trace::What;
use super::{ParseError, text};
use crate::config::parse::{Merge, Table, TableMetric, TableTake, cells};

/// A metric with the places of its columns.
struct Resolved<'a> {
    metric: &'a TableMetric,
    family: usize,
    labels: Vec<usize>,
    value: Option<usize>,
}

pub(super) fn parse<'o>(table: &Table, output: &'o [u8], series: &mut Series<'o>) -> Result<(), ParseError> {
    for line in text::lines(output).take(table.skip) {
        series.noted.at(Some(line.number), line.bytes);
        series.noted.step(|| What::Passed("skip"));
    }
    let mut lines = text::lines(output).skip(table.skip);
    let header: Vec<String> = if let Some(columns) = &table.columns {
        columns.clone()
    } else {
        let line = lines.next().filter(|line| !line.is_too_long()).ok_or(ParseError::NoHeader)?;
        series.noted.at(Some(line.number), line.bytes);
        series.noted.step(|| What::Passed("the names of the columns"));
        let names = cells(line.bytes, table.separator, usize::MAX);
        names.map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    };
    let mut places = HashMap::new();
    for (place, name) in header.iter().enumerate() {
        places.entry(name.as_str()).or_insert(place);
    }
    let place =
        |name: &String| places.get(name.as_str()).copied().ok_or_else(|| ParseError::NoColumn(name.clone()));

    let mut metrics = Vec::with_capacity(table.metrics.len());
    series.noted.at(None, &[]);
    for (rule, metric) in table.metrics.iter().enumerate() {
        series.noted.rule = Some(rule);
        let value = match &metric.take {
            TableTake::Value(column) | TableTake::Merge(_, column) => Some(place(column)?),
            TableTake::Count => None,
        };
        let labels = metric.labels.iter().map(|(_, column)| place(column)).collect::<Result<_, _>>()?;
        let family = series.family_of(&metric.def);
        if metric.labels.is_empty()
            && matches!(metric.take, TableTake::Count | TableTake::Merge(Merge::Sum, _))
        {
            // No row at all is the number 0, not the absence of a number. There is no largest one of none.
            let labels = series.labels(&metric.def.const_labels, []);
            series.add(family, labels, Some(0.0));
        }
        metrics.push(Resolved { metric, family, labels, value });
    }

    for line in lines {
        series.noted.rule = None;
        let Some(line) = series.line(line) else { continue };
        let row: Vec<&[u8]> = cells(line, table.separator, header.len()).collect();
        let cell = |place: usize| row.get(place).copied().unwrap_or_default();
        for (rule, Resolved { metric, family, labels, value }) in metrics.iter().enumerate() {
            series.noted.rule = Some(rule);
            let names = metric.labels.iter().map(|(name, _)| name);
            let labels = series.labels(&metric.def.const_labels, names.zip(labels.iter().map(|&p| cell(p))));
            let number = match value {
                Some(place) => text::number(cell(*place)),
                None => Some(1.0),
            };
            let number = scaled(&metric.def, number);
            match metric.take {
                TableTake::Value(_) => series.put(*family, "", labels, number),
                TableTake::Count => series.add(*family, labels, number),
                TableTake::Merge(how, _) => series.merge(*family, labels, number, how),
            }
        }
    }
    Ok(())
}
