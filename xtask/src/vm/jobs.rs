//! Which kernel meets which root, which runtime and which tests.

use std::fmt::Write as _;

use super::image::Project;
use super::kernel::{KERNELS, Kernel};
use super::root::{BOOKWORM, ROOTS, Root, SID, TRIXIE};

/// A row of the table each: tests of tests/runtimes.rs.
const ROWS: [&str; 8] = [
    "containerd cgroupfs runc",
    "containerd cgroupfs crun",
    "containerd systemd runc",
    "containerd systemd crun",
    "docker",
    "podman crun",
    "podman runc",
    "podman rootless",
];

/// Whole-agent tests that are about the kernel and end in a minute or two on a software processor.
const KERNEL_TESTS: &[&str] = &[
    "asked::a_run_on_request_answers_what_happened",
    "attacks::bounds::limits_hold_and_repeated_hits_bring_quarantine",
    "attacks::devices::a31_a_node_of_a_containers_leads_an_observer_to_no_device",
    "attacks::faults::a_frozen_container_can_be_looked_into",
    "attacks::faults::a_stopped_agent_holds_up_no_deletion",
    "attacks::traces::a11_mounts_of_runs_do_not_reach_the_host",
    "attacks::traces::a30_the_capabilities_of_the_unit_are_enough",
    "attacks::traces::the_agent_keeps_only_what_it_needs",
    "doctor::the_doctor_says_what_works_and_what_differs",
    "exec_killed::nothing_of_a_killed_exec_stays",
    "exec_streams::streams_statuses_signals_and_options",
    "exec_terminal::the_seeds_transcript_and_the_terminal_afterwards",
    "exec_together::people_and_probes_are_in_one_container_together",
    "killed::a_container_killed_in_mid_run_leaves_nothing",
    "killed::an_agent_killed_in_mid_run_leaves_nothing",
    "launcher_restarts::a_launcher_that_dies_or_hangs_is_replaced",
    "launcher_restarts::without_its_keeper_the_agent_ends_and_leaves_nothing",
    "losses::losses_are_counted_exactly_and_made_up_for",
    "realtime::agent_and_launcher_go_first_and_no_command_does",
    "restarts::nothing_is_lost_when_agent_or_runtime_restart",
    "truth::each_container_shows_its_own_truth",
];

/// Each kernel with the root that comes with it, or the oldest.
const OWN: [(&str, Root); 4] = [("5.10", BOOKWORM), ("6.1", BOOKWORM), ("6.12", TRIXIE), ("newest", SID)];

/// One call of the whole-agent tests in a machine.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) name: String,
    /// That it may take.
    pub(super) seconds: u64,
    variables: Vec<(&'static str, String)>,
    tests: Vec<&'static str>,
}

impl Job {
    /// A row of the table: of the runtime and, for containerd, how it makes containers.
    fn cells(name: &'static str) -> Self {
        let (runtime, how) = name.split_once(' ').unwrap_or((name, ""));
        let (test, variables) = match (runtime, how) {
            ("containerd", how) => ("runtimes::containerd", vec![("TESTBED_CONTAINERD", how.to_owned())]),
            ("docker", _) => ("runtimes::docker", Vec::new()),
            (_, "crun") => ("runtimes::podman_crun", Vec::new()),
            (_, "runc") => ("runtimes::podman_runc", Vec::new()),
            _ => ("runtimes::podman_rootless", Vec::new()),
        };
        Self { name: name.to_owned(), seconds: 300, variables, tests: vec![test] }
    }

    /// Whether its tests tell a row of the table.
    pub(super) fn is_row(&self) -> bool {
        self.tests.iter().all(|test| test.starts_with("runtimes::"))
    }

    fn tests(name: &str, seconds: u64, driver: &str, tests: &[&'static str]) -> Self {
        let variables = vec![("TESTBED_CONTAINERD", driver.to_owned())];
        Self { name: name.to_owned(), seconds, variables, tests: tests.to_vec() }
    }
}

/// A kernel with a root, and what runs on it, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    pub(super) kernel: Kernel,
    pub(super) root: Root,
    pub(super) jobs: Vec<Job>,
}

impl Machine {
    /// Such as `6.12/trixie`.
    pub(super) fn name(&self) -> String {
        format!("{}/{}", self.kernel.name, self.root.suite)
    }

    /// What guest/work.sh reads: shell, with the words of each job quoted.
    pub(super) fn script(&self, project: &Project) -> String {
        let mut script = format!("prepare {}\n", quoted(&project.folder.display().to_string()));
        for job in &self.jobs {
            let _ = write!(script, "job {} {}", quoted(&job.name), job.seconds);
            for (name, value) in &job.variables {
                let _ = write!(script, " {}", quoted(&format!("{name}={value}")));
            }
            let _ = write!(
                script,
                " TESTBED_PATIENCE=6 TESTBED_ROOTLESS=1 {} --test-threads 1",
                quoted(&project.tests.display().to_string())
            );
            // A name is a whole one, or that of a file with all its tests.
            if !job.tests.iter().any(|test| test.ends_with("::")) {
                script.push_str(" --exact");
            }
            for test in &job.tests {
                let _ = write!(script, " {}", quoted(test));
            }
            script.push('\n');
        }
        script
    }
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// All machines of a run, without the jobs whose names lack a text of the first, or have one of the second.
pub(super) fn machines(quick: bool, only: &[String], skip: &[String]) -> Vec<Machine> {
    let mut machines = if quick { one_job_each() } else { all() };
    for machine in &mut machines {
        let name = machine.name();
        machine.jobs.retain(|job| {
            let name = format!("{name}/{}", job.name);
            let has = |text: &String| name.contains(text.as_str());
            only.iter().all(has) && !skip.iter().any(has)
        });
    }
    machines.retain(|machine| !machine.jobs.is_empty());
    machines
}

/// Each kernel with another root or runtime, so that all kinds of them are met.
fn one_job_each() -> Vec<Machine> {
    let jobs = [
        (BOOKWORM, Job::cells("containerd cgroupfs runc")),
        (BOOKWORM, Job::cells("podman crun")),
        (TRIXIE, Job::cells("docker")),
        (SID, Job::cells("containerd systemd crun")),
    ];
    KERNELS
        .into_iter()
        .zip(jobs)
        .map(|(kernel, (root, job))| Machine { kernel, root, jobs: vec![job] })
        .collect()
}

fn all() -> Vec<Machine> {
    let mut machines = Vec::new();
    for kernel in KERNELS {
        for root in ROOTS {
            let mut jobs: Vec<Job> = ROWS.into_iter().map(Job::cells).collect();
            // Once on each kernel, with the driver that most nodes with cgroup v2 have.
            if root == TRIXIE {
                jobs.push(Job::tests("tests", 1800, "systemd runc", KERNEL_TESTS));
            }
            // What has tests of its own for each kind of target, once on each kernel.
            if OWN.contains(&(kernel.name, root)) {
                jobs.push(Job::tests("docker tests", 1200, "", &["docker::"]));
                jobs.push(Job::tests("podman tests", 1800, "", &["podman::"]));
                jobs.push(Job::tests("plain tests", 1200, "", &["plain::"]));
                jobs.push(Job::tests("fake CRI-O tests", 600, "", &["crio::"]));
            }
            machines.push(Machine { kernel, root, jobs });
        }
    }
    machines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quick_run_is_one_job_on_each_kernel_and_all_kinds_of_runtimes() {
        let machines = machines(true, &[], &[]);
        assert_eq!(
            machines.iter().map(|machine| machine.kernel.name).collect::<Vec<_>>(),
            KERNELS.map(|k| k.name)
        );
        assert!(machines.iter().all(|machine| machine.jobs.len() == 1));
        for runtime in ["containerd", "docker", "podman"] {
            assert!(machines.iter().any(|machine| machine.jobs[0].name.starts_with(runtime)), "{runtime}");
        }
    }

    #[test]
    fn the_whole_matrix_is_each_kernel_with_each_root_and_can_be_narrowed() {
        assert_eq!(machines(false, &[], &[]).len(), 12);
        let narrowed = machines(
            false,
            &["6.12/".to_owned(), "podman".to_owned()],
            &["tests".to_owned(), "rootless".to_owned()],
        );
        assert_eq!(narrowed.len(), 3);
        assert!(narrowed.iter().all(|machine| machine.jobs.len() == 2));
        assert!(machines(false, &["OS/2".to_owned()], &[]).is_empty());
    }

    #[test]
    fn the_tests_that_are_named_are_there() {
        let folder = std::path::Path::new(super::super::PROJECT).join("tests");
        for name in
            machines(false, &[], &[]).iter().flat_map(|machine| &machine.jobs).flat_map(|job| &job.tests)
        {
            let (file, test) = name.rsplit_once("::").unwrap();
            let text =
                std::fs::read_to_string(folder.join(format!("{}.rs", file.replace("::", "/")))).unwrap();
            assert!(test.is_empty() || text.contains(&format!("async fn {test}() {{")), "{name}");
        }
    }

    #[test]
    fn a_jobs_words_are_words_of_a_shell() {
        let project =
            Project { image: "".into(), folder: "/it's here".into(), tests: "/it's here/real".into() };
        let script = machines(true, &[], &[])[3].script(&project);
        let heard = std::process::Command::new("bash")
            .args([
                "-c",
                &format!("prepare() {{ echo \"$1\"; }}; job() {{ printf '%s\\n' \"$@\"; }}; {script}"),
            ])
            .output()
            .unwrap();
        let text = String::from_utf8(heard.stdout).unwrap();
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "/it's here",
                "containerd systemd crun",
                "300",
                "TESTBED_CONTAINERD=systemd crun",
                "TESTBED_PATIENCE=6",
                "TESTBED_ROOTLESS=1",
                "/it's here/real",
                "--test-threads",
                "1",
                "--exact",
                "runtimes::containerd"
            ]
        );
    }
}
