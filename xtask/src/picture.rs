//! `cargo xtask picture`: what a terminal showed, as the README's picture. Reads the captured text, with its colours,
//! from standard input and writes an SVG, which has the same dark background on light pages and on dark ones.

use std::fmt::Write as _;
use std::io::Read as _;

/// In pixels; a letter's width is that of the usual monospace fonts, and `textLength` holds others to it.
const LETTER: usize = 8;
const LINE: usize = 17;
const MARGIN: usize = 16;

pub(crate) fn run() -> anyhow::Result<()> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    print!("{}", picture(&text));
    Ok(())
}

fn picture(text: &str) -> String {
    let lines: Vec<Vec<(&str, &str)>> = text.lines().map(parts).collect();
    let length = |line: &Vec<(&str, &str)>| line.iter().map(|(_, text)| text.chars().count()).sum::<usize>();
    let (width, height) =
        (lines.iter().map(length).max().unwrap_or(0) * LETTER + 2 * MARGIN, lines.len() * LINE + 2 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" \
         font-size=\"13\" fill=\"#d6dbe3\" xml:space=\"preserve\">\n\
         <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#171b22\"/>\n"
    );
    for (row, line) in lines.iter().enumerate() {
        let y = MARGIN + row * LINE + LINE * 3 / 4;
        let mut column = 0;
        for (code, text) in line {
            let letters = text.chars().count();
            let (x, length) = (MARGIN + column * LETTER, letters * LETTER);
            let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
            // Writing to a String cannot fail.
            let _ = writeln!(
                svg,
                "<text x=\"{x}\" y=\"{y}\" textLength=\"{length}\"{}>{text}</text>",
                fill(code)
            );
            column += letters;
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// A line cut where its colour changes, each part with its SGR code.
fn parts(line: &str) -> Vec<(&str, &str)> {
    let mut parts = Vec::new();
    for (at, piece) in line.split("\x1b[").enumerate() {
        let (code, text) = if at == 0 { ("", piece) } else { piece.split_once('m').unwrap_or(("", piece)) };
        if !text.is_empty() {
            parts.push((code, text));
        }
    }
    parts
}

fn fill(code: &str) -> &'static str {
    match code {
        "1" => " fill=\"#ffffff\" font-weight=\"bold\"",
        "2" => " fill=\"#7d8796\"",
        "32" => " fill=\"#6fcf8a\"",
        "36" => " fill=\"#62c4d9\"",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_marks_become_svg() {
        let svg = picture("\x1b[32m  up  \x1b[0ma<b\nlonger line\n");
        assert!(svg.contains("viewBox=\"0 0 120 66\""), "{svg}");
        assert!(
            svg.contains("<text x=\"16\" y=\"28\" textLength=\"48\" fill=\"#6fcf8a\">  up  </text>"),
            "{svg}"
        );
        assert!(svg.contains("<text x=\"64\" y=\"28\" textLength=\"24\">a&lt;b</text>"), "{svg}");
    }
}
