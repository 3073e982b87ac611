//! `parachute exec` at a real terminal: the seed's acceptance transcript, job control, and that the terminal is as before
//! however it ends. What a hostile output may do to it is in `attacks/terminal.rs`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testbed::{Agent, Tmux, WORKLOAD_IMAGE};

use crate::common::{self, ONE_PROBE, Rig};

const SOON: Duration = Duration::from_secs(20);

/// A shell in a terminal, with `parachute` on its path.
pub(crate) struct Person {
    pub(crate) tmux: Tmux,
    prompt: String,
}

impl Person {
    pub(crate) fn at(folder: &Path, agent: &Agent) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_parachute")).parent().unwrap();
        let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
        let run = agent.run_directory().to_str().unwrap();
        let variables = [("PATH", path.as_str()), ("PARACHUTE_RUN_DIRECTORY", run)];
        let tmux = Tmux::shell(folder, (100, 30), &variables).unwrap();
        let person = Self { tmux, prompt: format!("root@{}:/#", nix_hostname()) };
        person.tmux.wait_for("a prompt", SOON, |screen| screen.ends_with(&person.prompt)).unwrap();
        person
    }

    /// Types a line at a cleared screen and gives back what is there when the prompt has come again.
    pub(crate) fn types(&self, line: &str) -> String {
        self.tmux.clear().unwrap();
        self.tmux.send(line).unwrap();
        let prompt = &self.prompt;
        self.tmux
            .wait_for(line, SOON, |screen| screen.lines().count() > 1 && screen.ends_with(prompt))
            .unwrap()
    }

    /// Types and waits for a text that is not in the line itself.
    pub(crate) fn sees(&self, line: &str, text: &str) -> String {
        self.tmux.clear().unwrap();
        self.tmux.send(line).unwrap();
        self.tmux.wait_for(line, SOON, |screen| screen.contains(text)).unwrap()
    }

    /// Enters the container; the prompt of the shell there is the same.
    pub(crate) fn enters(&self) {
        self.sees("parachute exec --env PS1 curlybox bash --norc; echo status $?", &self.prompt);
        self.tmux.wait_for("the shell", SOON, |screen| screen.matches(&self.prompt).count() > 0).unwrap();
        let tty = self.types("tty");
        assert!(tty.contains("\n/dev/pts/0\n"), "{tty}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seeds_transcript_and_the_terminal_afterwards() {
    let rig = Rig::new().await;
    let agent = rig.agent(ONE_PROBE).await;
    let sleep = ["/workload", "sleep"];
    let pods = [
        rig.bed
            .pod("default", "curlybox")
            .container("curlybox", WORKLOAD_IMAGE, &sleep)
            .start()
            .await
            .unwrap(),
        rig.bed.pod("default", "victim").container("victim", WORKLOAD_IMAGE, &sleep).start().await.unwrap(),
    ];
    common::knows(&agent, &pods).await;
    let folder = tempfile::tempdir().unwrap();
    let person = Person::at(folder.path(), &agent);
    let before = person.types("stty -a");

    transcript(&person, &pods[0]);
    job_control(&person);

    person.sees("exit 7", "status 7");
    // What the person leads elsewhere does not come to the terminal.
    let apart = person.types("parachute exec curlybox sh -c 'tty; echo apart >&2' 2>/dev/null");
    assert!(apart.contains("\n/dev/pts/0\n") && !apart.contains("\napart"), "{apart}");
    assert_eq!(settings(&person.types("stty -a")), settings(&before), "after a plain end");

    person.enters();
    assert!(
        Command::new("pkill")
            .args(["-KILL", "-x", "parachute", "-P", &shell(&person)])
            .status()
            .unwrap()
            .success()
    );
    person.tmux.wait_for("it is killed", SOON, |screen| screen.contains("status 137")).unwrap();
    assert_eq!(settings(&person.types("stty -a")), settings(&before), "after SIGKILL");

    person.sees("parachute exec --env PS1 victim bash --norc; echo status $?", &person.prompt);
    pods[1].kill("victim").await.unwrap();
    let told =
        person.tmux.wait_for("the container died", SOON, |screen| screen.contains("status 137")).unwrap();
    assert!(told.contains("the container has ended"), "{told}");
    assert_eq!(settings(&person.types("stty -a")), settings(&before), "after the container's death");
    drop(person);
    assert_eq!(common::processes_beside(pods[0].containers[0].pid), ["workload"]);
    rig.finish(agent);
}

fn transcript(person: &Person, pod: &testbed::Pod) {
    person.sees("parachute exec curlybox bash; echo status $?", &person.prompt);
    // The shell reads the person's own start-up files: its prompt is set to the one that the seed shows.
    person.sees(r"PS1='\u@\h:\w\$ '; clear", &person.prompt);
    let listing = person.types("ps -ef");
    let rows: Vec<Vec<&str>> =
        listing.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"], "{listing}");
    let what: Vec<_> =
        rows[1..rows.len() - 1].iter().map(|row| (row[0], row[5], row[7..].join(" "))).collect();
    let wanted = [("root", "?", "/workload sleep"), ("root", "pts/0", "bash"), ("root", "pts/0", "ps -ef")];
    assert_eq!(what, wanted.map(|(user, tty, command)| (user, tty, command.to_owned())), "{listing}");
    assert_eq!(rows[1][1..3], ["1", "0"], "{listing}");
    assert_eq!(rows[3][2], rows[2][1], "ps is the shell's child: {listing}");

    let addresses = person.types("ip -4 -br addr");
    let names: Vec<_> = addresses
        .lines()
        .skip(1)
        .filter(|line| !line.starts_with("root@"))
        .map(|line| line.split_whitespace().next().unwrap().split('@').next().unwrap())
        .collect();
    assert_eq!(names, ["lo", "eth0"], "{addresses}");
    let inside = pod.containers[0].pid.to_string();
    let of_pod =
        Command::new("nsenter").args(["-t", &inside, "-n", "ip", "-4", "-br", "addr"]).output().unwrap();
    let of_pod = String::from_utf8(of_pod.stdout).unwrap();
    let eth0 =
        of_pod.lines().find(|line| line.starts_with("eth0")).unwrap().split_whitespace().nth(2).unwrap();
    assert!(addresses.contains(eth0), "{addresses} {of_pod}");
    assert!(person.types("ip -4 addr").contains("inet 127.0.0.1/8 scope host lo"));

    let top = person.sees("top", "Tasks:");
    assert!(top.contains("Tasks:   3 total"), "{top}");
    person.tmux.keys(&["q"]).unwrap();
    person.tmux.wait_for("the prompt after top", SOON, |screen| screen.ends_with(&person.prompt)).unwrap();
}

fn job_control(person: &Person) {
    person.tmux.clear().unwrap();
    person.tmux.send("sleep 1000").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    person.tmux.keys(&["C-z"]).unwrap();
    person.tmux.wait_for("it is stopped", SOON, |screen| screen.contains("Stopped")).unwrap();
    let jobs = person.types("jobs");
    assert!(jobs.contains("Stopped") && jobs.contains("sleep 1000"), "{jobs}");
    person.tmux.clear().unwrap();
    person.tmux.send("fg").unwrap();
    person.tmux.wait_for("it goes on", SOON, |screen| screen.contains("sleep 1000")).unwrap();
    person.tmux.keys(&["C-c"]).unwrap();
    person.tmux.wait_for("the prompt after Ctrl-C", SOON, |screen| screen.ends_with(&person.prompt)).unwrap();
    person.tmux.resize(90, 25).unwrap();
    let size = person.types("sleep 0.2; stty size");
    assert!(size.contains("\n25 90\n"), "{size}");
    person.tmux.resize(100, 30).unwrap();
}

/// `stty -a` without the line that was typed, the prompt and the size, which the test changes.
fn settings(screen: &str) -> String {
    let kept = screen.lines().filter(|line| !line.contains("root@") && !line.contains("rows"));
    kept.collect::<Vec<_>>().join("\n")
}

fn shell(person: &Person) -> String {
    person.tmux.pid().unwrap().to_string()
}

fn nix_hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    name.trim().split('.').next().unwrap().to_owned()
}
