//! What an expression may use, and the meter in every step of it. It rewrites the syntax tree before it is compiled.

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{BinaryOp, Def, Pattern, Term};
use jaq_core::native::{Fun, bome, run, v};
use jaq_core::path::{Part, Path};
use jaq_core::{Error, Exn, ValX, ops};
use jaq_json::Val;

use super::{Metered, Work, place};

/// Everything that can be called. None reads the agent's environment, clock or files, none loops on its own.
const ALLOWED: [&str; 74] = [
    "add",
    "all",
    "any",
    "arrays",
    "ascii_downcase",
    "ascii_upcase",
    "booleans",
    "capture",
    "ceil",
    "contains",
    "empty",
    "endswith",
    "error",
    "explode",
    "fabs",
    "false",
    "first",
    "flatten",
    "floor",
    "from_entries",
    "fromjson",
    "group_by",
    "has",
    "implode",
    "in",
    "index",
    "indices",
    "infinite",
    "inside",
    "isarray",
    "isboolean",
    "isempty",
    "isinfinite",
    "isnan",
    "isnumber",
    "isobject",
    "isstring",
    "join",
    "keys",
    "keys_unsorted",
    "last",
    "length",
    "log10",
    "log2",
    "ltrimstr",
    "map",
    "map_values",
    "match",
    "max",
    "max_by",
    "min",
    "min_by",
    "nan",
    "not",
    "null",
    "numbers",
    "objects",
    "pow",
    "reverse",
    "round",
    "rtrimstr",
    "select",
    "sort",
    "sort_by",
    "split",
    "startswith",
    "sub",
    "test",
    "to_entries",
    "tonumber",
    "tostring",
    "true",
    "type",
    "unique",
];

/// These compile their pattern at every call.
const REGEX: [&str; 5] = ["capture", "match", "split", "sub", "test"];

/// The evaluation recurses once per level of the tree, a few KiB each; runtime threads have 2 MiB.
const MAX_DEPTH: usize = 48;

/// A string of more bytes, or an array of more elements, ends the evaluation: `. + .` doubles at every step.
const MAX_VALUE: usize = 16 << 20;

const STEP: &str = "parachute_step";
const REGEX_STEP: &str = "parachute_regex_step";
const NUMBER: &str = "parachute_number";

/// Checks `term`, which was parsed from `text`, and puts a step before every node and after those that loop.
pub(super) fn guard<'s>(text: &'s str, term: Term<&'s str>) -> Result<Term<&'s str>, String> {
    Guard { text }.term(term, 0)
}

struct Guard<'s> {
    text: &'s str,
}

impl<'s> Guard<'s> {
    fn term(&self, term: Term<&'s str>, depth: usize) -> Result<Term<&'s str>, String> {
        if depth > MAX_DEPTH {
            return Err(format!("the expression is nested more than {MAX_DEPTH} levels deep"));
        }
        let inner = |term: Box<Term<&'s str>>| self.term(*term, depth + 1).map(Box::new);
        let optional = |term: Option<Box<Term<&'s str>>>| term.map(inner).transpose();

        let mut step = STEP;
        let guarded = match term {
            Term::Id | Term::Num(_) | Term::Var(_) => term,
            Term::Recurse => pipe(Term::Recurse, call(STEP)),
            Term::Neg(a) => Term::Neg(inner(a)?),
            Term::Arr(a) => Term::Arr(optional(a)?),
            Term::TryCatch(a, b) => Term::TryCatch(inner(a)?, optional(b)?),
            Term::Obj(entries) => Term::Obj(
                entries
                    .into_iter()
                    .map(|(key, value)| {
                        // A lone key is a name (`{a}`, `{$x}`, `{"a"}`), which a step before it would hide.
                        let key = if value.is_none() { key } else { self.term(key, depth + 1)? };
                        Ok((key, value.map(|value| self.term(value, depth + 1)).transpose()?))
                    })
                    .collect::<Result<_, String>>()?,
            ),
            Term::Str(format, parts) => {
                format.map_or(Ok(()), |format| self.available(format))?;
                let part = |part| match part {
                    StrPart::Term(term) => self.term(term, depth + 1).map(StrPart::Term),
                    other => Ok(other),
                };
                Term::Str(format, parts.into_iter().map(part).collect::<Result<_, _>>()?)
            }
            Term::IfThenElse(branches, otherwise) => Term::IfThenElse(
                branches
                    .into_iter()
                    .map(|(test, then)| Ok((self.term(test, depth + 1)?, self.term(then, depth + 1)?)))
                    .collect::<Result<_, String>>()?,
                optional(otherwise)?,
            ),
            Term::BinOp(left, op, right) => operation(inner(left)?, op, inner(right)?)?,
            Term::Path(base, Path(parts)) => {
                let index = |term| self.term(term, depth + 1);
                let part = |(part, opt)| {
                    let part = match part {
                        Part::Index(i) => Part::Index(index(i)?),
                        Part::Range(a, b) => {
                            Part::Range(a.map(index).transpose()?, b.map(index).transpose()?)
                        }
                    };
                    Ok((part, opt))
                };
                let parts = parts.into_iter().map(part).collect::<Result<_, String>>()?;
                pipe(Term::Path(inner(base)?, Path(parts)), call(STEP))
            }
            Term::Call(name, args) => {
                self.available(name)?;
                if REGEX.contains(&name) {
                    step = REGEX_STEP;
                }
                let args = args.into_iter().map(|arg| self.term(arg, depth + 1)).collect::<Result<_, _>>()?;
                pipe(Term::Call(name, args), call(STEP))
            }
            Term::Def(..) => return Err(refused("`def`")),
            Term::Fold(name, ..) => {
                return Err(format!("{}: {}", place(self.text, name), refused(&format!("`{name}`"))));
            }
            Term::Label(..) | Term::Break(_) => return Err(refused("`label`")),
        };
        Ok(pipe(call(step), guarded))
    }

    fn available(&self, name: &'s str) -> Result<(), String> {
        if ALLOWED.contains(&name) {
            return Ok(());
        }
        Err(format!(
            "{}: `{name}` is not available here; there are {}",
            place(self.text, name),
            ALLOWED.join(", ")
        ))
    }
}

fn operation<'s>(
    left: Box<Term<&'s str>>,
    op: BinaryOp<&'s str>,
    right: Box<Term<&'s str>>,
) -> Result<Term<&'s str>, String> {
    match op {
        BinaryOp::Assign | BinaryOp::Update | BinaryOp::UpdateMath(_) | BinaryOp::UpdateAlt => {
            Err(refused("assignment"))
        }
        // `"x" * 1000000000000` is a string of that length: only numbers are multiplied.
        BinaryOp::Math(ops::Math::Mul) => {
            Ok(Term::BinOp(Box::new(pipe(*left, call(NUMBER))), op, Box::new(pipe(*right, call(NUMBER)))))
        }
        BinaryOp::Pipe(Some(Pattern::Arr(_) | Pattern::Obj(_))) => {
            Err(refused("taking a value apart with `as`"))
        }
        _ => Ok(Term::BinOp(left, op, right)),
    }
}

fn refused(what: &str) -> String {
    format!("{what} is not available here: its work could not be bounded")
}

fn call(name: &'static str) -> Term<&'static str> {
    Term::Call(name, Vec::new())
}

fn pipe<'s>(left: Term<&'s str>, right: Term<&'s str>) -> Term<&'s str> {
    Term::BinOp(Box::new(left), BinaryOp::Pipe(None), Box::new(right))
}

/// Definitions that name what [`funs`] leaves out would not compile; they are left out too.
pub(super) fn defs() -> Vec<Def<&'static str>> {
    let removed = ["debug", "stderr", "halt", "halt_error"];
    let library = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    library.filter(|def| !removed.contains(&def.name)).collect()
}

pub(super) fn funs() -> impl Iterator<Item = Fun<Metered>> {
    let removed =
        ["env", "now", "halt", "debug_empty", "stderr_empty", "localtime", "strflocaltime", "fromjson"];
    let own: [Fun<Metered>; 4] = [
        run((STEP, v(0), |cv| Box::new(std::iter::once(pay(cv.0.data().work, 1, cv.1))))),
        run((REGEX_STEP, v(0), |cv| Box::new(std::iter::once(pay(cv.0.data().work, 500, cv.1))))),
        run((NUMBER, v(0), |cv| match cv.1 {
            Val::Num(_) => bome(Ok(cv.1)),
            other => bome(Err(Error::typ(other, "number"))),
        })),
        // The library's own reader overflows the stack on deep nesting, and `tonumber` hands it every string.
        run(("fromjson", v(0), |cv| {
            let (Val::TStr(text) | Val::BStr(text)) = &cv.1 else {
                return bome(Err(Error::typ(cv.1, "string")));
            };
            bome(serde_json::from_slice(text).map_err(|error| Error::str(format!("not JSON: {error}"))))
        })),
    ];
    let library = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    library.filter(move |fun| !removed.contains(&fun.0)).chain(own)
}

/// Takes the price of one step with `value` from `work`. The exception cannot be caught by `try` or `//`, and as
/// nothing is left every later step throws it too.
fn pay<'a>(work: &Work, price: u64, value: Val) -> ValX<'a, Val> {
    let size = match &value {
        Val::TStr(text) | Val::BStr(text) => text.len(),
        Val::Arr(array) => array.len(),
        Val::Obj(object) => object.len(),
        Val::Null | Val::Bool(_) | Val::Num(_) => 0,
    };
    let price = price.saturating_add(size as u64 / 16);
    match work.0.get().checked_sub(price) {
        Some(left) if left > 0 && size <= MAX_VALUE => {
            work.0.set(left);
            Ok(value)
        }
        _ => {
            work.0.set(0);
            Err(Exn::halt(1))
        }
    }
}
