//! The program as it is shipped: how large it is, and that it is one file that needs no other.

use anyhow::{Context as _, ensure};
use object::elf::PT_INTERP;
use object::read::elf::{ElfFile64, ProgramHeader as _};
use object::{Endianness, Object as _};

use crate::Bench;
use crate::row::{Figure, Row, Target};

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let path = bench.parachute.display();
    let bytes = tokio::fs::read(&bench.parachute).await.with_context(|| path.to_string())?;
    let elf = ElfFile64::<Endianness>::parse(&*bytes).with_context(|| path.to_string())?;
    let kinds: Vec<_> = elf.elf_program_headers().iter().map(|header| header.p_type(elf.endian())).collect();
    // What a dynamic program has: the name of a linker that must be there.
    ensure!(!kinds.contains(&PT_INTERP), "{path} is not static");
    ensure!(elf.symbol_table().is_none() && !elf.has_debug_symbols(), "{path} is not stripped");
    let sections = [".text", ".rodata", ".eh_frame"].map(|name| {
        let size = elf.section_by_name(name).map_or(0, |section| object::ObjectSection::size(&section));
        format!("{name} {}", megabytes(size))
    });
    Ok(vec![Row {
        what: "binary, static musl, stripped".into(),
        measured: megabytes(bytes.len() as u64),
        beside: sections.join(", "),
        value: bytes.len() as f64 / 1e6,
        figure: Figure::Size("MB"),
        target: Target::AtMost(12.0),
    }])
}

fn megabytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}
