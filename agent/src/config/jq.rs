//! A compiled jq expression that cannot harm the agent: it reads nothing but its input, and its work is bounded.
//!
//! The expression is the operator's, its input is hostile, and the library (jaq) trusts both: `env` shows the
//! agent's environment, deep nesting and endless recursion abort the process, `"x" * n` allocates what a container
//! asks for. So `guard` lets only listed filters through and makes every step of an evaluation pay from a [`Work`].
//! What is not offered, because it recurses without end or can build values without end: `def`, `reduce`,
//! `foreach`, `label`, assignments, `recurse(f)`, `repeat`, `while`, `until`, `range`, `limit`.

mod guard;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;

use jaq_core::data::HasLut;
use jaq_core::load::lex::Token;
use jaq_core::load::parse::Def;
use jaq_core::load::{Arena, File, Lexer, Loader, Parser};
use jaq_core::{Compiler, Ctx, DataT, Lut, Vars};
pub use jaq_json::Val;

/// Longest accepted expression in bytes; the compiler's recursion is bounded by it.
const MAX_TEXT: usize = 4096;

/// The library's parser recurses once per bracket or keyword, about 10 KiB of stack each without optimisation.
const COMPILE_STACK: usize = 64 << 20;

/// A compiled expression; cheap to clone.
#[derive(Clone)]
pub struct Filter(Arc<Compiled>);

struct Compiled {
    text: String,
    filter: jaq_core::Filter<Metered>,
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Filter").field(&self.0.text).finish()
    }
}

/// Why an evaluation gave no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// The input is not as the expression expects it; the next input may be.
    #[error("{0}")]
    Value(String),
    /// The [`Work`] is used up: nothing more can be evaluated with it.
    #[error("the expression took too many steps")]
    TooMuchWork,
}

/// What the evaluations of one output may cost together, in steps; a step is one node of one expression, plus one
/// per 16 elements or bytes of the value it is given.
#[derive(Debug)]
pub struct Work(Cell<u64>);

impl Work {
    /// Enough for `ip -j -s link` with 20,000 links and ten metrics; ends a loop gone wild in a few seconds.
    pub const STEPS: u64 = 5_000_000;

    pub fn new(steps: u64) -> Self {
        Self(Cell::new(steps))
    }
}

/// What filters run on: jaq's JSON values, with the work left at hand.
struct Metered;

#[derive(Clone)]
struct Run<'a> {
    lut: &'a Lut<Metered>,
    work: &'a Work,
}

impl DataT for Metered {
    type V<'a> = Val;
    type Data<'a> = Run<'a>;
}

impl<'a> HasLut<'a, Metered> for Run<'a> {
    fn lut(&self) -> &'a Lut<Metered> {
        self.lut
    }
}

impl Filter {
    /// Compiles an expression; the error says what is wrong and at which column (in characters, from 1).
    pub fn compile(text: &str) -> Result<Self, String> {
        if text.len() > MAX_TEXT {
            return Err(format!(
                "the expression is {} bytes long, at most {MAX_TEXT} are accepted",
                text.len()
            ));
        }
        let text = text.to_owned();
        let compiled = std::thread::Builder::new()
            .stack_size(COMPILE_STACK)
            .spawn(move || compile(&text).map(|filter| Compiled { text: text.clone(), filter }))
            .map_err(|error| format!("no thread to compile the expression on: {error}"))?
            .join()
            .map_err(|_| "the expression makes the jq compiler fail".to_owned())??;
        Ok(Self(Arc::new(compiled)))
    }

    /// The outputs for one input, evaluated as they are asked for. Every output costs at least one step, so that
    /// there are never more of them than `work` allows.
    pub fn outputs<'a>(
        &'a self,
        input: Val,
        work: &'a Work,
    ) -> impl Iterator<Item = Result<Val, EvalError>> + 'a {
        let filter = &self.0.filter;
        let ctx = Ctx::<Metered>::new(Run { lut: &filter.lut, work }, Vars::new([]));
        let mut outputs = filter.id.run((ctx, input));
        let mut ended = false;
        std::iter::from_fn(move || {
            if ended {
                return None;
            }
            let output = outputs.next()?;
            if work.0.get() == 0 {
                ended = true;
                return Some(Err(EvalError::TooMuchWork));
            }
            Some(output.map_err(|exception| match exception.get_err() {
                Ok(error) => EvalError::Value(shortened(&error.to_string())),
                Err(_) => EvalError::TooMuchWork,
            }))
        })
    }
}

fn compile(text: &str) -> Result<jaq_core::Filter<Metered>, String> {
    let tokens = Lexer::new(text).lex().map_err(|errors| {
        let (expected, found) = &errors[0];
        expected_found(text, expected.as_str(), found)
    })?;
    let term = Parser::new(&tokens).parse(Parser::term).map_err(|errors| {
        let (expected, found) = &errors[0];
        expected_found(text, expected.as_str(), Token::opt_as_str(*found, text))
    })?;
    let term = guard::guard(text, term)?;

    // The guarded tree has no text form of its own, so it enters as a definition that the main program calls.
    let mut definitions: Vec<Def<&str>> = guard::defs();
    definitions.push(Def { name: "main", args: Vec::new(), body: term });
    let arena = Arena::default();
    let modules = Loader::new(definitions)
        .load(&arena, File { code: "main", path: () })
        .map_err(|_| "the jq library's own definitions do not load".to_owned())?;
    Compiler::default().with_funs(guard::funs()).compile(modules).map_err(|errors| {
        match errors.iter().flat_map(|(_, errors)| errors).next() {
            Some((name, undefined)) => {
                format!("{}: `{name}` is not a known {}", place(text, name), undefined.as_str())
            }
            None => "the expression does not compile".to_owned(),
        }
    })
}

fn expected_found(text: &str, expected: &str, found: &str) -> String {
    if found.is_empty() {
        return format!("expected {expected} at the end of the expression");
    }
    format!("{}: expected {expected}, found `{}`", place(text, found), shortened(found))
}

/// `column N`, for a `part` that is a slice of `text`.
fn place(text: &str, part: &str) -> String {
    let offset = (part.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
    match text.get(..offset) {
        Some(before) => format!("column {}", before.chars().count() + 1),
        None => "in the expression".to_owned(),
    }
}

/// Errors quote values, and values come from inside a container.
fn shortened(text: &str) -> String {
    const MAX_CHARS: usize = 120;
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut short: String = text.chars().take(MAX_CHARS).map(clean).collect();
    if text.chars().nth(MAX_CHARS).is_some() {
        short.push('…');
    }
    short
}
