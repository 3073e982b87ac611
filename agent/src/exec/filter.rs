//! What a process in a container prints may reach a person's terminal, through `ss`, `lsof` or a pseudo-terminal. This
//! filter lets through what draws, and nothing that makes the terminal answer (its answer would be typed into the
//! person's shell), writes the clipboard or sets the title. Pure: bytes in, bytes out, cut anywhere.
//!
//! What is blocked is shown in caret form, but for what shells and full-screen programs send all the time. The sequences
//! are those of ECMA-48 and of XTerm Control Sequences (invisible-island.net/xterm/ctlseqs).

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

/// Longest control sequence; none that only draws is longer.
const MAX_SEQUENCE: usize = 64;
/// A string (OSC, DCS, …) that has not ended by then is taken as ended: it must not swallow the stream.
const MAX_STRING: usize = 4096;
/// So much of a blocked string is shown.
const SHOWN: usize = 64;

/// DEC private modes that change how things are drawn or which keys and clicks are sent, but never make the terminal
/// speak by itself.
const MODES: [u16; 22] = [
    1, 5, 6, 7, 12, 25, 45, 47, 66, 69, 1000, 1002, 1003, 1005, 1006, 1007, 1015, 1034, 1047, 1048, 1049,
    2004,
];
/// Of those the ones that are on from the start.
const ON_AT_FIRST: [u16; 2] = [7, 25];
/// Operating system commands that are dropped without a word: titles, working directory, links, colours given back, marks
/// of a shell's prompt.
const SILENT: [&[u8]; 8] = [b"0", b"1", b"2", b"7", b"8", b"104", b"112", b"133"];

#[derive(Debug, Default)]
enum State {
    #[default]
    Ground,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate byte that names a character set.
    Charset(u8),
    /// After ESC [ .
    Control(Vec<u8>),
    /// In a string that began with ESC and this byte; its beginning and its length.
    Text { kind: u8, body: Vec<u8>, length: usize },
    /// After an ESC in one.
    TextEscape { kind: u8, body: Vec<u8> },
    /// After the first byte of a character of several.
    Lead(u8),
    /// So many more bytes of the character follow.
    Character(u8),
}

/// The filter of one stream.
#[derive(Debug, Default)]
pub struct Filter {
    state: State,
    /// Modes that are not as they are at first.
    changed: BTreeSet<u16>,
    painted: bool,
    keypad: bool,
    charset: bool,
}

impl Filter {
    /// Appends to `out` what of `bytes` may be seen.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes {
            self.take(*byte, out);
        }
    }

    /// At the end of the stream: what was cut off is shown, and what a killed program left on is turned off.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.give_up(out);
        for mode in std::mem::take(&mut self.changed) {
            let back = if ON_AT_FIRST.contains(&mode) { 'h' } else { 'l' };
            out.extend(format!("\x1b[?{mode}{back}").bytes());
        }
        for (was, back) in [
            (std::mem::take(&mut self.painted), "\x1b[m"),
            (std::mem::take(&mut self.keypad), "\x1b>"),
            (std::mem::take(&mut self.charset), "\x1b(B"),
        ] {
            if was {
                out.extend(back.bytes());
            }
        }
    }

    fn take(&mut self, byte: u8, out: &mut Vec<u8>) {
        match std::mem::take(&mut self.state) {
            State::Escape => self.escape(byte, out),
            State::Charset(set) => {
                if (0x30..=0x7e).contains(&byte) {
                    self.charset = true;
                    out.extend([0x1b, set, byte]);
                } else {
                    show(out, &[0x1b, set]);
                    self.ground(byte, out);
                }
            }
            State::Control(mut sequence) => {
                sequence.push(byte);
                match byte {
                    0x20..=0x3f if sequence.len() < MAX_SEQUENCE => self.state = State::Control(sequence),
                    0x40..=0x7e => self.control(&sequence, out),
                    _ => {
                        sequence.pop();
                        show(out, &[0x1b, b'[']);
                        show(out, &sequence);
                        self.ground(byte, out);
                    }
                }
            }
            State::Text { kind, mut body, length } => match byte {
                0x1b => self.state = State::TextEscape { kind, body },
                0x07 if kind == b']' => blocked_text(kind, &body, out),
                // CAN and SUB end it early.
                0x18 | 0x1a => blocked_text(kind, &body, out),
                _ if length >= MAX_STRING => {
                    blocked_text(kind, &body, out);
                    self.ground(byte, out);
                }
                _ => {
                    if body.len() < SHOWN {
                        body.push(byte);
                    }
                    self.state = State::Text { kind, body, length: length + 1 };
                }
            },
            State::TextEscape { kind, body } => {
                blocked_text(kind, &body, out);
                if byte != b'\\' {
                    self.escape(byte, out);
                }
            }
            State::Lead(lead) => {
                if second_bytes(lead).contains(&byte) {
                    out.extend([lead, byte]);
                    self.state = match lead {
                        0xe0..=0xef => State::Character(1),
                        0xf0..=0xf4 => State::Character(2),
                        _ => State::Ground,
                    };
                } else {
                    show(out, &[lead]);
                    self.ground(byte, out);
                }
            }
            State::Character(left) if (0x80..=0xbf).contains(&byte) => {
                out.push(byte);
                self.state = if left > 1 { State::Character(left - 1) } else { State::Ground };
            }
            State::Ground | State::Character(_) => self.ground(byte, out),
        }
    }

    fn ground(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            0x1b => self.state = State::Escape,
            // Bell, backspace, tab, the line and form feeds, carriage return, and the shifts between character sets.
            0x07..=0x0f | 0x20..=0x7e => out.push(byte),
            // Terminals take no notice of it; it pads.
            0x00 => {}
            0xc2..=0xf4 => self.state = State::Lead(byte),
            _ => show(out, &[byte]),
        }
    }

    fn escape(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            b'[' => self.state = State::Control(Vec::new()),
            b']' | b'P' | b'X' | b'^' | b'_' => {
                self.state = State::Text { kind: byte, body: Vec::new(), length: 0 };
            }
            b'(' | b')' | b'*' | b'+' => self.state = State::Charset(byte),
            // Save and restore the cursor, index, next line, reverse index, tab stop, keypad modes.
            b'7' | b'8' | b'D' | b'E' | b'M' | b'H' | b'=' | b'>' => {
                self.keypad |= byte == b'=';
                out.extend([0x1b, byte]);
            }
            // The end of a string that has ended already.
            b'\\' => {}
            0x20..=0x7e => show(out, &[0x1b, byte]),
            _ => {
                show(out, &[0x1b]);
                self.ground(byte, out);
            }
        }
    }

    /// A whole control sequence, without its ESC [ .
    fn control(&mut self, sequence: &[u8], out: &mut Vec<u8>) {
        let Some((last, before)) = sequence.split_last() else { return };
        let private = before.first().copied().filter(|byte| (0x3c..=0x3f).contains(byte));
        let middle = before.iter().position(|byte| *byte < 0x30).unwrap_or(before.len());
        let (numbers, between) = before.split_at(middle);
        let numbers = numbers.get(usize::from(private.is_some())..).unwrap_or_default();
        let plain = numbers.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b':'));
        let numbers: Vec<u16> = numbers
            .split(|byte| matches!(byte, b';' | b':'))
            .map(|digits| std::str::from_utf8(digits).ok().and_then(|d| d.parse().ok()).unwrap_or(0))
            .collect();
        let allowed = plain
            && match (private, between, last) {
                // Moving, erasing, inserting, scrolling, tabs, colours; cursor's style, soft reset, selective erase.
                (
                    None,
                    b"",
                    b'@'..=b'I'
                    | b'J'..=b'M'
                    | b'P'
                    | b'S'
                    | b'X'
                    | b'Z'
                    | b'`'
                    | b'a'
                    | b'b'
                    | b'd'..=b'g'
                    | b'm'
                    | b'r'
                    | b's',
                )
                | (None, b" ", b'q')
                | (None, b"!", b'p')
                | (Some(b'?'), b"", b'J' | b'K') => true,
                // With parameters these are a mouse mode and a keyboard protocol.
                (None, b"", b'T' | b'u') => numbers.len() <= 1,
                (None, b"", b'h' | b'l') => numbers.iter().all(|mode| [4, 20].contains(mode)),
                (Some(b'?'), b"", b'h' | b'l') => numbers.iter().all(|mode| MODES.contains(mode)),
                _ => false,
            };
        if allowed {
            if private.is_some() && matches!(last, b'h' | b'l') {
                for mode in numbers {
                    if ON_AT_FIRST.contains(&mode) == (*last == b'h') {
                        self.changed.remove(&mode);
                    } else {
                        self.changed.insert(mode);
                    }
                }
            }
            self.painted |= *last == b'm';
            out.extend([0x1b, b'[']);
            out.extend(sequence);
            return;
        }
        // The title's stack, and how keys are reported: part of what full-screen programs send at their start.
        let silent = match (private, last) {
            (None, b't') => matches!(numbers.first(), Some(22 | 23)),
            (Some(b'>'), b'm') => true,
            _ => false,
        };
        if !silent {
            show(out, &[0x1b, b'[']);
            show(out, sequence);
        }
    }

    /// Shows what was begun and not ended.
    fn give_up(&mut self, out: &mut Vec<u8>) {
        match std::mem::take(&mut self.state) {
            State::Ground | State::Character(_) => {}
            State::Escape => show(out, &[0x1b]),
            State::Charset(set) => show(out, &[0x1b, set]),
            State::Control(sequence) => {
                show(out, &[0x1b, b'[']);
                show(out, &sequence);
            }
            State::Text { kind, body, .. } | State::TextEscape { kind, body } => {
                blocked_text(kind, &body, out);
            }
            State::Lead(lead) => show(out, &[lead]),
        }
    }
}

/// Which bytes may follow the first of a character (The Unicode Standard, table 3-7): so neither a C1 control nor an
/// overlong form gets through.
fn second_bytes(lead: u8) -> std::ops::RangeInclusive<u8> {
    match lead {
        // U+0080 to U+009F are controls as well.
        0xc2 | 0xe0 => 0xa0..=0xbf,
        0xf0 => 0x90..=0xbf,
        0xf4 => 0x80..=0x8f,
        0xed => 0x80..=0x9f,
        _ => 0x80..=0xbf,
    }
}

fn blocked_text(kind: u8, body: &[u8], out: &mut Vec<u8>) {
    let number = body.split(|byte| *byte == b';').next().unwrap_or_default();
    if kind == b']' && SILENT.contains(&number) {
        return;
    }
    show(out, &[0x1b, kind]);
    show(out, body);
}

/// Caret form: `^[` for ESC, `\x9b` for bytes that are no ASCII.
pub fn show(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        match byte {
            0x20..=0x7e => out.push(*byte),
            0x00..=0x1f => out.extend([b'^', byte + 0x40]),
            0x7f => out.extend(b"^?"),
            _ => out.extend(format!("\\x{byte:02x}").bytes()),
        }
    }
}
