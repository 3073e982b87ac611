//! What a tired person is told when a name means no container, or several. Pure.

use std::path::PathBuf;

use crate::cli::rows::{self, Row};

/// Names this like a mistyped one are offered, 1 is the same: by letters that were left out or exchanged
/// (Damerau-Levenshtein), or by their beginning (Jaro-Winkler).
const LIKENESS: (f64, f64) = (0.6, 0.75);
const OFFERED: usize = 3;

/// `sockets` is where runtimes were looked for in vain.
pub(super) fn not_found(text: &str, rows: &[Row], sockets: &[PathBuf]) -> String {
    let shown = rows::shown(text);
    if text.strip_suffix(".service").is_some() {
        return format!(
            "no target {shown}: either it does not run, or the configuration does not name it under targets: services; \
             --pid \"$(systemctl show -P MainPID {shown})\" works all the same"
        );
    }
    if !sockets.is_empty() {
        let looked: Vec<_> = sockets.iter().map(|socket| format!("  {}", socket.display())).collect();
        return format!(
            "no container {shown}: no agent runs here and no runtime's socket was found, so that nobody knows names; \
             the beginning of an id, and --pid PID, work all the same. Looked at\n{}",
            looked.join("\n")
        );
    }
    let containers: Vec<_> = rows.iter().filter(|row| !row.sandbox).collect();
    if containers.is_empty() {
        return format!("no container {shown}: no container runs here at all");
    }
    // As many parts of the name are compared as the person gave.
    let parts = text.split('/').count();
    let mut near: Vec<(f64, String)> = containers
        .iter()
        .map(|row| {
            let name = match parts {
                1 => row.container.clone(),
                2 => format!("{}/{}", row.pod, row.container),
                _ => row.name(),
            };
            let letters = strsim::normalized_damerau_levenshtein(text, &name);
            let beginning = strsim::jaro_winkler(text, &name);
            let near = letters >= LIKENESS.0 || beginning >= LIKENESS.1;
            (if near { letters + beginning } else { 0.0 }, rows::shown(&row.name()))
        })
        .filter(|(likeness, _)| *likeness > 0.0)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    near.dedup_by(|a, b| a.1 == b.1);
    let near: Vec<_> = near.into_iter().take(OFFERED).map(|(_, name)| format!("  {name}")).collect();
    let hint = format!("`parachute ps` lists the {} there are", containers.len());
    if near.is_empty() {
        format!("no container {shown}; {hint}")
    } else {
        format!("no container {shown}; {hint}. Near to it:\n{}", near.join("\n"))
    }
}

pub(super) fn ambiguous(text: &str, several: &[Row]) -> String {
    let table = rows::table(several.to_vec(), false);
    format!(
        "{} may be one of {}, and nothing was run; name one as NAMESPACE/POD/NAME or by its id\n{}",
        rows::shown(text),
        several.len(),
        table.trim_end()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::rows::tests::row;

    #[test]
    fn the_nearest_names_are_offered() {
        let rows = [
            row("shop", "cart-0", "cart"),
            row("shop", "pay-0", "pay"),
            row("web", "front-0", "nginx"),
            Row { sandbox: true, ..row("shop", "cart-0", "") },
        ];
        for (text, offered) in [
            ("crat", Some("shop/cart-0/cart")),
            ("pya", Some("shop/pay-0/pay")),
            ("ngnix", Some("web/front-0/nginx")),
            ("cart-0/crt", Some("shop/cart-0/cart")),
            ("shop/pay-1/pay", Some("shop/pay-0/pay")),
            ("zzzz", None),
        ] {
            let told = not_found(text, &rows, &[]);
            match offered {
                Some(name) => assert!(told.contains(&format!("Near to it:\n  {name}")), "{told}"),
                None => assert!(!told.contains("Near"), "{told}"),
            }
            assert!(told.contains("lists the 3 there are"), "{told}");
        }
        assert!(not_found("x", &[], &[]).contains("no container runs here at all"));
        assert!(not_found("a.service", &[], &[]).contains("MainPID a.service"));
        let told = not_found("x", &[], &["/run/a.sock".into(), "/run/b.sock".into()]);
        assert!(told.contains("  /run/a.sock\n  /run/b.sock") && told.contains("--pid"), "{told}");
    }

    #[test]
    fn what_is_ambiguous_is_a_table() {
        let told = ambiguous("cart", &[row("shop", "cart-0", "cart"), row("shop", "cart-1", "cart")]);
        assert!(told.contains("one of 2, and nothing was run"), "{told}");
        assert!(told.lines().nth(1).is_some_and(|head| head.starts_with("CONTAINER ID")), "{told}");
        assert!(told.contains("cart-0") && told.contains("cart-1"), "{told}");
    }
}
