//! Device nodes: with MKNOD, which a container has by default, anybody can name the host's devices, and leave the names
//! where others may open them.

use std::io;

use crate::sys;

/// `S_IFCHR` and `S_IFBLK` with all rights for everybody.
const CHARACTER: i64 = 0o020_666;
const BLOCK: i64 = 0o060_666;

/// Makes a node for each of these words, and says which of them this process could open itself.
pub(crate) fn nodes(file: &str, words: &[String]) -> io::Result<()> {
    let mut said = Vec::new();
    for word in words {
        let (path, kind, major, minor) =
            parse(word).ok_or_else(|| io::Error::other(format!("not PATH:b|c:MAJOR:MINOR: {word}")))?;
        let made = sys::make_node(path, kind, (major, minor));
        let opened = std::fs::File::open(path);
        said.push(format!("{path} made {} opened {}\n", made.is_ok(), opened.is_ok()));
    }
    std::fs::write(file, said.concat() + "done\n")?;
    crate::sleep()
}

fn parse(word: &str) -> Option<(&str, i64, i64, i64)> {
    let mut parts = word.split(':');
    let path = parts.next()?;
    let kind = match parts.next()? {
        "b" => BLOCK,
        "c" => CHARACTER,
        _ => return None,
    };
    Some((path, kind, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}
