//! A look at the containers: the running agent's answer, else one scan and one list from each runtime.

use std::path::{Path, PathBuf};

use crate::cli::rows::{self, Row};
use crate::cli::run_directory::RunDirectory;
use crate::cli::survey::{self, Survey};
use crate::cli::{ask, say, told};
use crate::containers::metadata;
use crate::http::{ContainerView, ListenAddress};
use crate::triggers::{Target, resolve};

const PATH: &str = "/api/v1/containers";

/// Where containers are looked for.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli::exec) struct Where<'a> {
    pub(in crate::cli::exec) run_directory: &'a RunDirectory,
    pub(in crate::cli::exec) config: Option<&'a Path>,
}

/// What a look found.
pub(super) struct Look {
    /// What the text may mean.
    pub(super) meant: Vec<Row>,
    everything: Everything,
    /// Where runtimes were looked for, if no agent was asked and no runtime was there.
    pub(super) sockets: Vec<PathBuf>,
}

enum Everything {
    Known(Vec<Row>),
    Ask(ListenAddress),
}

impl Look {
    /// Looks for what `text` may mean.
    pub(super) fn at(place: &Where<'_>, text: Option<&str>) -> anyhow::Result<Self> {
        let agent = place.run_directory.agent();
        let path = text.map_or_else(|| PATH.to_owned(), |text| format!("{PATH}?target={}", encoded(text)));
        match ask::get(&agent, &path) {
            Ok(Some(answer)) => {
                let rows = rows::parse(&answer)?;
                return Ok(match text {
                    Some(_) => Self { meant: rows, everything: Everything::Ask(agent), sockets: Vec::new() },
                    None => {
                        Self { meant: Vec::new(), everything: Everything::Known(rows), sockets: Vec::new() }
                    }
                });
            }
            Ok(None) => {}
            Err(error) => say(&format!("{}; looking without it", told(&error))),
        }
        own(place.config, text)
    }

    pub(super) fn everything(&self) -> anyhow::Result<Vec<Row>> {
        match &self.everything {
            Everything::Known(rows) => Ok(rows.clone()),
            Everything::Ask(agent) => Ok(match ask::get(agent, PATH)? {
                Some(answer) => rows::parse(&answer)?,
                None => Vec::new(),
            }),
        }
    }
}

fn own(config: Option<&Path>, text: Option<&str>) -> anyhow::Result<Look> {
    let target = text.map(Target::parse);
    survey::look(config.map(Path::to_owned), async |survey: Survey| {
        let sockets = metadata::looked_at(&survey.config.runtimes);
        // The names of these are the configuration's.
        let has_targets = !survey.config.targets.written().is_empty();
        let has_runtime = sockets.iter().any(|socket| socket.exists());
        let sockets = if has_targets || has_runtime { Vec::new() } else { sockets };
        let live = survey.registry.containers();
        let row = |container: &crate::model::Container| {
            serde_json::to_value(ContainerView::from(container)).and_then(serde_json::from_value::<Row>)
        };
        let meant: Vec<_> = target.map(|target| resolve(&live, &target).into()).unwrap_or_default();
        Ok(Look {
            meant: meant.iter().map(|container| row(container)).collect::<Result<_, _>>()?,
            everything: Everything::Known(
                live.iter().map(|container| row(container)).collect::<Result<_, _>>()?,
            ),
            sockets,
        })
    })
}

/// For a URL's query (RFC 3986, 2.1): every byte that is not plain.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' => all.push(char::from(byte)),
            byte => all.extend(format!("%{byte:02X}").chars()),
        }
        all
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_name_cannot_leave_its_place_in_the_url() {
        for (text, url) in
            [("shop/cart-0/web", "shop/cart-0/web"), ("a b&c=d", "a%20b%26c%3Dd"), ("ä\r\n", "%C3%A4%0D%0A")]
        {
            assert_eq!(super::encoded(text), url);
        }
    }
}
