//! `parachute exec` without a terminal: byte-exact streams, exit statuses, signals, and every option.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use testbed::{Agent, Pod, WORKLOAD_IMAGE};

use crate::common::{self, ONE_PROBE, Rig, SOON};

struct Shop {
    agent: Agent,
    pod: Pod,
}

impl Shop {
    async fn open(rig: &Rig) -> Self {
        let agent = rig.agent(ONE_PROBE).await;
        let pod = rig.bed.pod("shop", "web-0").container("web", WORKLOAD_IMAGE, &["/workload", "sleep"]);
        let pod = pod.start().await.unwrap();
        common::knows(&agent, std::slice::from_ref(&pod)).await;
        Self { agent, pod }
    }

    fn exec(&self, words: &[&str]) -> Command {
        common::exec(&self.agent, words)
    }

    fn run(&self, words: &[&str]) -> Output {
        self.exec(words).output().unwrap()
    }

    /// Standard output of a command that must go well.
    fn says(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_statuses_signals_and_options() {
    let rig = Rig::new().await;
    let shop = Shop::open(&rig).await;
    streams(&shop);
    statuses(&shop);
    signals(&shop);
    surroundings(&shop);
    namespaces(&shop);
    users(&shop);
    let Shop { agent, pod } = shop;
    assert_eq!(common::processes_beside(pod.containers[0].pid), ["workload"]);
    rig.finish(agent);
}

/// Binary input comes out as it went in, the streams stay apart, and the end of one is seen at the other side.
fn streams(shop: &Shop) {
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
    let mut child = shop.exec(&["web", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let to_write = bytes.clone();
    let writer = std::thread::spawn(move || input.write_all(&to_write).unwrap());
    let mut got = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut got).unwrap();
    writer.join().unwrap();
    assert!(child.wait().unwrap().success() && got == bytes, "{} bytes came back", got.len());

    let both = shop.run(&["web", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!((both.stdout.as_slice(), both.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));

    // Reads to the end of its input, and speaks only then.
    let mut child = shop
        .exec(&["web", "sh", "-c", "wc -c; echo after"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"12345").unwrap();
    assert_eq!(child.wait_with_output().unwrap().stdout, b"5\nafter\n");

    // The command closes its output and goes on: what made it has that open until it has ended, and then the reader sees the end.
    let since = Instant::now();
    let closed = shop.run(&["web", "sh", "-c", "echo x; exec >&- 2>&-; sleep 1"]);
    assert_eq!((closed.stdout.as_slice(), closed.status.code()), (&b"x\n"[..], Some(0)));
    assert!((Duration::from_secs(1)..SOON).contains(&since.elapsed()), "{:?}", since.elapsed());

    // The reader leaves: the writer gets SIGPIPE, as in a pipeline of the host's.
    let mut child = shop.exec(&["web", "yes"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut two = [0; 2];
    child.stdout.take().unwrap().read_exact(&mut two).unwrap();
    assert_eq!((two, child.wait().unwrap().code()), (*b"y\n", Some(128 + 13)));
}

fn statuses(shop: &Shop) {
    for (words, status, part) in [
        (&["web", "true"][..], 0, ""),
        (&["web", "sh", "-c", "exit 7"], 7, ""),
        (&["web", "sh", "-c", "kill -KILL $$"], 137, ""),
        (&["web", "sh", "-c", "kill -TERM $$"], 143, ""),
        (&["--timeout", "300ms", "web", "sleep", "60"], 124, "timeout"),
        (&["web", "no-such-tool"], 127, "looked in"),
        (&["web", "/no/such/tool"], 127, "commands come from this host"),
        (&["web", "/etc/passwd"], 126, "no executable file"),
        (&["wbe", "true"], 125, "shop/web-0/web"),
        (&["--workdir", "/no/such", "web", "true"], 125, "no such folder"),
        (&["--user", "no-such-user", "web", "true"], 125, "no user no-such-user"),
        (&["--bogus", "web", "true"], 125, "no option --bogus"),
        (&["web"], 125, "name a command"),
    ] {
        let output = shop.run(words);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{words:?}: {said}");
        assert!(said.contains(part) && (status == 0) <= said.is_empty(), "{words:?}: {said}");
    }
    // A script whose interpreter is missing.
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(shop.run(&["web", script.to_str().unwrap()]).status.code(), Some(127));
}

/// Signals reach the command itself; one that ignores a request to end is ended after a moment.
fn signals(shop: &Shop) {
    for (signal, status) in [("INT", 3), ("TERM", 3), ("HUP", 3), ("USR1", 3), ("QUIT", 3)] {
        let script = format!("trap 'exit 3' {signal}; echo ready; while :; do sleep 0.05; done");
        let (mut child, _stdout) = ready(shop, &script);
        kill(signal, child.id());
        assert_eq!(child.wait().unwrap().code(), Some(status), "{signal}");
    }
    let (mut child, _stdout) = ready(shop, "trap '' TERM; echo ready; while :; do sleep 0.05; done");
    kill("TERM", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(137), "ended though it ignores the request");
    let (mut child, _stdout) =
        ready(shop, "trap 'echo again' USR1; echo ready; while :; do sleep 0.05; done");
    kill("USR1", child.id());
    std::thread::sleep(Duration::from_millis(200));
    assert!(child.try_wait().unwrap().is_none(), "a signal that is no request to end ends nothing");
    kill("KILL", child.id());
    child.wait().unwrap();
}

fn ready(shop: &Shop, script: &str) -> (std::process::Child, std::process::ChildStdout) {
    let mut child = shop.exec(&["web", "sh", "-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut line = [0; 6];
    stdout.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"ready\n");
    (child, stdout)
}

fn kill(signal: &str, pid: u32) {
    assert!(Command::new("kill").args(["-s", signal, &pid.to_string()]).status().unwrap().success());
}

fn surroundings(shop: &Shop) {
    // Words after the command are its own, whatever they look like.
    assert_eq!(shop.says(&["web", "printf", "%s,", "--all", "-it", "--", "--pid"]), "--all,-it,--,--pid,");
    assert_eq!(shop.says(&["web", "--", "echo", "-n", "x"]), "x");
    assert_eq!(shop.says(&["web", "--env", "A=b c", "sh", "-c", "echo $A"]), "b c\n");

    let secret = shop.exec(&["--env", "PASSED", "web", "env"]).env("SECRET", "1").env("PASSED", "2").output();
    let environment = String::from_utf8(secret.unwrap().stdout).unwrap();
    assert!(environment.contains("PASSED=2\n") && !environment.contains("SECRET"), "{environment}");

    assert_eq!(shop.says(&["--workdir", "/usr", "web", "pwd"]), "/usr\n");
    let here = shop.exec(&["web", "pwd"]).current_dir("/var/lib").output().unwrap();
    assert_eq!(here.stdout, b"/var/lib\n");
    // A file that the command writes is where the person looks for it.
    let folder = tempfile::tempdir().unwrap();
    let wrote = shop.exec(&["web", "sh", "-c", "echo x > capture"]).current_dir(folder.path()).status();
    assert!(wrote.unwrap().success() && folder.path().join("capture").exists());

    let descriptors = shop.says(&["web", "sh", "-c", "ls /proc/self/fd"]);
    assert_eq!(descriptors.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"], "3 is ls' own");
    let limits = shop.says(&["web", "cat", "/proc/self/limits"]);
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["1", "1"]);

    let processes = shop.says(&["web", "ps", "-e", "-o", "comm="]);
    assert_eq!(processes.split_whitespace().collect::<Vec<_>>(), ["workload", "ps"]);
    let pod = shop.says(&["web", "ls", "/sys/class/net"]);
    assert_eq!(pod.split_whitespace().collect::<Vec<_>>(), ["eth0", "lo"]);
    let host = shop.says(&["--no-sys", "web", "ls", "/sys/class/net"]);
    assert_ne!(host, pod, "the host's interfaces");
    assert!(
        Path::new("/sys/kernel").exists() && shop.says(&["--no-sys", "web", "ls", "/sys"]).contains("kernel")
    );
}

fn namespaces(shop: &Shop) {
    let of = |words: &[&str], name: &str| {
        let path = format!("/proc/self/ns/{name}");
        shop.says(&[words, &["web", "readlink", &path]].concat()).trim().to_owned()
    };
    let link = |pid: &str, name: &str| {
        std::fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap().to_string_lossy().into_owned()
    };
    let container = shop.pod.containers[0].pid.to_string();
    for (words, joined) in [
        (&[][..], &["pid", "net"][..]),
        (&["--namespaces", "net"], &["net"]),
        (&["--namespaces", "pid"], &["pid"]),
        (&["--namespaces", "pid,net,ipc,uts,cgroup"], &["pid", "net", "ipc", "uts", "cgroup"]),
    ] {
        for name in ["pid", "net", "ipc", "uts", "cgroup"] {
            let whose = if joined.contains(&name) { container.as_str() } else { "self" };
            assert_eq!(of(words, name), link(whose, name), "{words:?} {name}");
        }
        assert_ne!(of(words, "mnt"), link("self", "mnt"), "a mount namespace of its own");
    }
    let all = shop.says(&["--namespaces", "net", "web", "ps", "-e", "-o", "pid="]);
    assert!(all.lines().count() > 5, "the host's processes: {all}");

    for (list, part) in [
        ("net,mnt", "join pid as well"),
        ("pid,mnt", "--allow-unsafe-target"),
        ("pid,user", "has none of its own"),
    ] {
        let refused = shop.run(&["--namespaces", list, "web", "true"]);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(125) && said.contains(part), "{list}: {said}");
    }
    // The container's own program in its own files; the image has no other.
    let own = shop.run(&["--namespaces", "pid,net,mnt", "--allow-unsafe-target", "web", "/workload", "true"]);
    assert!(own.status.success(), "{own:?}");
    let none = shop.run(&["--namespaces", "pid,mnt", "--allow-unsafe-target", "web", "ls"]);
    assert_eq!(none.status.code(), Some(127), "{none:?}");
}

fn users(shop: &Shop) {
    let id = shop.says(&["--user", "nobody", "web", "id", "-un"]);
    assert_eq!(id, "nobody\n");
    assert_eq!(
        shop.says(&["--user", "1234:4321", "web", "sh", "-c", "id -u; id -g; id -G"]),
        "1234\n4321\n4321\n"
    );
    // A process whose capabilities were a part of the container's could be taken over by it.
    let mask = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    let status = shop.says(&["--user", "nobody", "web", "cat", "/proc/self/status"]);
    let container = std::fs::read_to_string(format!("/proc/{}/status", shop.pod.containers[0].pid)).unwrap();
    let (own, theirs) = (mask(&status, "CapPrm:"), mask(&container, "CapBnd:"));
    assert!(own & !theirs != 0, "{own:x} is a part of {theirs:x}");
    assert_eq!(own.count_ones(), 1);
}
