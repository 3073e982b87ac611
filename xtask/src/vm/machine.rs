//! One machine: QEMU with a kernel, a root and the project, and what it says of its jobs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::cpio::Cpio;
use super::image::Project;
use super::jobs::Machine;
use super::{kernel, root};

const WORK: &[u8] = include_bytes!("guest/work.sh");

/// From the start of QEMU until the jobs begin, and from their end until it has ended.
const BOOT: Duration = Duration::from_mins(4);

/// How often the host looks at what the machine has said.
const TICK: Duration = Duration::from_millis(200);

/// What came of a machine: of each job that ended, and why there is no more.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The kernel's own name.
    pub(super) release: String,
    /// Exit status and seconds of each job that gave a verdict.
    pub(super) ended: BTreeMap<String, (i32, u64)>,
    /// What the jobs' tests wrote for the table, a line of JSON each, behind the job's name.
    pub(super) cells: Vec<(String, String)>,
    /// Tests that passed, by job.
    pub(super) passed: BTreeMap<String, u64>,
    /// The names of those that failed.
    pub(super) fallen: BTreeMap<String, Vec<String>>,
    /// Why jobs without a verdict have none.
    pub(super) died: Option<String>,
}

/// How many jobs of all machines have begun.
#[derive(Debug)]
pub(super) struct Progress {
    begun: AtomicUsize,
    all: usize,
}

impl Progress {
    pub(super) fn new(all: usize) -> Self {
        Self { begun: AtomicUsize::new(0), all }
    }

    fn tell(&self, machine: &str, job: &str) {
        let begun = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        println!("{machine}: {job} ... ({begun} of {})", self.all);
    }
}

/// Runs all jobs of a machine. What it says goes to files in `logs`, two lines for each job to the terminal.
pub(super) fn run(
    machine: &Machine,
    cache: &Path,
    project: &Project,
    work: &Path,
    logs: &Path,
    progress: &Progress,
) -> Outcome {
    let mut outcome = Outcome::default();
    if let Err(error) = watch(machine, cache, project, work, logs, (progress, &mut outcome)) {
        outcome.died = Some(format!("{error:#}"));
    }
    outcome
}

fn watch(
    machine: &Machine,
    cache: &Path,
    project: &Project,
    work: &Path,
    logs: &Path,
    (progress, outcome): (&Progress, &mut Outcome),
) -> anyhow::Result<()> {
    let name = machine.name();
    let file_name = name.replace('/', "-");
    let kernel = kernel::folder(cache, machine.kernel);
    outcome.release = fs::read_to_string(kernel.join("release"))?.trim().into();
    let first_root = work.join(format!("{file_name}.initrd"));
    let mut archive = Cpio::default();
    archive.file("vm/work", 0o755, WORK);
    archive.file("vm/jobs", 0o644, machine.script(project).as_bytes());
    fs::write(&first_root, [fs::read(kernel.join("initrd"))?, archive.finish()].concat())?;
    let said = logs.join(format!("{file_name}.log"));
    File::create(&said)?;
    let console = logs.join(format!("{file_name}.console"));
    let log = File::create(logs.join(format!("{file_name}.qemu")))?;
    let disk =
        |path: &Path, id: &str| format!("file={},if=none,id={id},format=raw,snapshot=on", path.display());
    let mut qemu = Command::new("setpriv");
    // None outlives this program, however that ends.
    qemu.args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64"]);
    qemu.args(["-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", "3G"]);
    qemu.args(["-nodefaults", "-display", "none", "-no-reboot", "-device", "virtio-rng-pci"]);
    qemu.arg("-serial").arg(format!("file:{}", console.display()));
    qemu.args(["-drive", &disk(&root::image(cache, machine.root), "root")]);
    qemu.args(["-device", "virtio-blk-pci,drive=root"]);
    qemu.args(["-drive", &disk(&project.image, "project"), "-device", "virtio-blk-pci,drive=project"]);
    qemu.args(["-device", "virtio-serial-pci", "-chardev"])
        .arg(format!("file,id=work,path={}", said.display()));
    qemu.args(["-device", "virtserialport,chardev=work,name=work"]);
    qemu.arg("-kernel").arg(kernel.join("vmlinuz")).arg("-initrd").arg(&first_root);
    qemu.args([
        "-append",
        "console=ttyS0 quiet panic=-1 cgroup_no_v1=all systemd.unified_cgroup_hierarchy=1",
    ]);
    // Writes to the disks are forgotten, and kept until then beside the cache and not in /var/tmp.
    qemu.env("TMPDIR", work);
    qemu.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let mut running_one = Running(qemu.spawn().context("starting qemu-system-x86_64")?);
    let child = &mut running_one.0;
    let mut deadline = Instant::now() + BOOT;
    let mut heard = BufReader::new(File::open(&said)?);
    let mut line = Vec::new();
    let mut running = None;
    let died = loop {
        let ended = child.try_wait()?;
        // What it has said before it ended is there by now.
        while heard.by_ref().take(1 << 20).read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
            let text = String::from_utf8_lossy(&line);
            if let Some(job) = text.strip_prefix("vm: begin ") {
                progress.tell(&name, job.trim_end());
            }
            if let Some(seconds) = hear(text.trim_end(), machine, &mut running, outcome) {
                deadline = Instant::now() + seconds;
            }
            line.clear();
        }
        if ended.is_some() {
            break None;
        }
        if Instant::now() > deadline {
            break Some("it did not go on in time".to_owned());
        }
        std::thread::sleep(TICK);
    };
    if outcome.ended.len() < machine.jobs.len() {
        let during = running.map_or("before its jobs".to_owned(), |job: String| format!("in {job}"));
        let why = died.unwrap_or_else(|| "it ended".to_owned());
        outcome.died = Some(format!("{why} {during}"));
    }
    Ok(())
}

/// Ends with its owner.
#[derive(Debug)]
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Takes in a line of the machine's; for how long it may now be silent, if that changes.
fn hear(
    line: &str,
    machine: &Machine,
    running: &mut Option<String>,
    outcome: &mut Outcome,
) -> Option<Duration> {
    // A test that has ended, also where the job is cut off before libtest sums up. What it prints may stand in between.
    if let Some(job) = running.as_ref().filter(|_| line == "ok" || is_test(line) && line.ends_with(" ... ok"))
    {
        *outcome.passed.entry(job.clone()).or_default() += 1;
    }
    if let (Some(result), Some(job)) = (line.strip_prefix("test result: "), running.as_ref()) {
        // Such as `ok. 3 passed; 0 failed; 1 ignored; ...`.
        let passed = result.split([' ', ';']).find_map(|word| word.parse().ok());
        outcome.passed.insert(job.clone(), passed.unwrap_or(0));
    }
    // As they fail, and libtest's list of names at the end.
    let fallen =
        line.strip_prefix("    ").or_else(|| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
    if let (Some(test), Some(job)) = (fallen, running.as_ref()) {
        let is_name =
            test.contains("::") && test.bytes().all(|c| c.is_ascii_alphanumeric() || b"_:".contains(&c));
        let names = outcome.fallen.entry(job.clone()).or_default();
        if is_name && names.iter().all(|name| name != test) {
            names.push(test.to_owned());
        }
    }
    let words = line.strip_prefix("vm: ")?;
    let name = machine.name();
    if let Some(up) = words.strip_prefix("up ") {
        println!("{name}: {up}");
    } else if let Some(job) = words.strip_prefix("begin ") {
        *running = Some(job.to_owned());
        let seconds = machine.jobs.iter().find(|known| known.name == job).map_or(0, |known| known.seconds);
        return Some(Duration::from_secs(seconds) + BOOT);
    } else if let (Some(cell), Some(job)) = (words.strip_prefix("cell "), running.as_ref()) {
        outcome.cells.push((job.clone(), cell.to_owned()));
    } else if let Some(end) = words.strip_prefix("end ") {
        let mut fields = end.splitn(3, ' ');
        let status = fields.next()?.parse().ok()?;
        let seconds = fields.next()?.parse().ok()?;
        let job = fields.next()?.to_owned();
        let verdict = if status == 0 { "ok".to_owned() } else { format!("FAILED with {status}") };
        println!("{name}: {job}: {verdict}, {seconds} s");
        outcome.ended.insert(job, (status, seconds));
        *running = None;
        return Some(BOOT);
    }
    None
}

fn is_test(line: &str) -> bool {
    line.strip_prefix("test ")
        .is_some_and(|rest| rest.split(' ').next().is_some_and(|name| name.contains("::")))
}

#[cfg(test)]
mod tests {
    use super::super::jobs;
    use super::*;

    #[test]
    fn what_a_machine_says_is_taken_in_and_what_tests_print_is_not() {
        let machine = jobs::machines(true, &[], &[]).remove(0);
        let job = machine.jobs[0].name.clone();
        let (mut running, mut outcome) = (None, Outcome::default());
        let mut said = |line: &str| hear(line, &machine, &mut running, &mut outcome);
        assert_eq!(said("vm: up 5.10.0 after 9.1 s"), None);
        assert_eq!(
            said(&format!("vm: begin {job}")),
            Some(Duration::from_secs(machine.jobs[0].seconds) + BOOT)
        );
        assert_eq!(said("agent: level=info vm: end 0 1 nothing"), None);
        assert_eq!(said("test a::b ... ok"), None);
        assert_eq!(said("test killed::an_agent ... FAILED"), None);
        assert_eq!(said("    killed::an_agent"), None);
        assert_eq!(said("    left: killed::an agent"), None);
        assert_eq!(said("test result: FAILED. 3 passed; 1 failed; 0 ignored"), None);
        assert_eq!(said(r#"vm: cell {"version":"1"}"#), None);
        assert_eq!(said(&format!("vm: end 101 44 {job}")), Some(BOOT));
        assert_eq!(outcome.ended[&job], (101, 44));
        assert_eq!((outcome.passed[&job], &outcome.fallen[&job]), (3, &vec!["killed::an_agent".to_owned()]));
        assert_eq!(outcome.cells, [(job.clone(), r#"{"version":"1"}"#.to_owned())]);
        // Cut off before its sum.
        let (mut running, mut outcome) = (Some(job.clone()), Outcome::default());
        for line in
            ["test a::b ... ok", "test a::c ... printed by a child", "ok", "test a::d ... FAILED", "it is ok"]
        {
            hear(line, &machine, &mut running, &mut outcome);
        }
        assert_eq!(outcome.passed[&job], 2);
    }
}
