//! What the targets begin with: the recorded outputs of real tools that the tests use, and a little of each format.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

const EXPOSITION: &[&str] = &[
    "# HELP http_total Requests.\n# TYPE http_total counter\nhttp_total{code=\"200\",path=\"a\\\\b\\\"c\"} 1027 1395066363000\n",
    "# TYPE lat histogram\nlat_bucket{le=\"0.1\"} 1\nlat_bucket{le=\"+Inf\"} 2\nlat_sum 3\nlat_count 2\n",
    "# TYPE rpc summary\nrpc{quantile=\"0.5\"} 4\nrpc_sum 5\nrpc_count 6\nbare 1.5e3\nminus -Inf\nno_labels{} NaN\n",
];
const ROWS: &[&str] = &[
    "a,1,c\n2,3,x y\n",
    "a→1\nb→2\n",
    "PID COMMAND\n1 a b\n",
    "1 rest of the line\n",
    "a 1\nb: 2\nc=3 kB\n",
];
const DOCUMENTS: &[&str] = &[
    r#"[{"v":1,"name":"x","b":true},{"v":"2.5","name":null}]"#,
    r#"{"a":1e400,"b":"[1,{\"a\":2}]","c":[[-0.5]]}"#,
];
const STREAMS: &[&str] = &[
    "0plain\r\n\ttext\x08\x07\x1b[1;31mred\x1b[0m\x1b[?1049h\x1b[?25l\x1b7\x1b(0lqk\x1b(B",
    "5\x1b]52;c;ZXZpbA==\x07\x1b[6n\x1b[>c\x1bP$qm\x1b\\\x1b]0;title\x1b\\\u{9b}c\x1b[2 q\x1b[!p",
];
const REQUESTS: &[&str] = &[
    r#"{"probe":"ss","target":{"namespace":"n","pod":"p","container":"c"}}"#,
    r#"{"probe":"ss","target":{"id":"abcdef012345"}}"#,
];

/// The first byte of an output chooses the probe; no format has more of them than this.
const PROBES: u8 = 5;

/// Names of the targets, which are their files'.
pub(super) fn targets(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    names.sort();
    Ok(names)
}

/// Writes the seeds of a target beside what earlier runs have found.
pub(super) fn write(root: &Path, target: &str, corpus: &Path) -> anyhow::Result<()> {
    let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>();
    let fixtures = root.join("tests/fixtures");
    let seeds = match target {
        "cgroup" => {
            let table = fs::read_to_string(fixtures.join("cgroup/paths.tsv"))?;
            let rows = table.lines().filter(|line| !line.starts_with('#'));
            rows.filter_map(|line| line.split('\t').next()).map(|path| path.as_bytes().to_vec()).collect()
        }
        "mountinfo" => vec![fs::read("/proc/self/mountinfo")?],
        "request" => texts(REQUESTS),
        "store" => Vec::new(),
        "terminal" => texts(STREAMS),
        _ => {
            let mut outputs = texts(match target {
                "json" => DOCUMENTS,
                "prometheus" => EXPOSITION,
                _ => ROWS,
            });
            for entry in fs::read_dir(fixtures.join("output"))? {
                outputs.push(fs::read(entry?.path())?);
            }
            let for_each_probe =
                |output: Vec<u8>| (0..PROBES).map(move |probe| [&[probe], output.as_slice()].concat());
            outputs.into_iter().flat_map(for_each_probe).collect()
        }
    };
    fs::create_dir_all(corpus).with_context(|| format!("making {}", corpus.display()))?;
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(corpus.join(format!("seed-{number}")), seed)?;
    }
    Ok(())
}
