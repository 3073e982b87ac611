//! From the agent's start to its first "ready", beside many containers that it has to find.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use testbed::{Containerd, WORKLOAD_IMAGE, free_address};

use crate::Bench;
use crate::row::{Figure, Row, Target, Times, shown};

const CONTAINERS_PER_POD: usize = 20;
const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) async fn measure(bench: &Bench) -> anyhow::Result<Vec<Row>> {
    let bed = Containerd::start(&bench.path("ready")).await?;
    let pods = if bench.quick { 2 } else { 10 };
    for number in 0..pods {
        let mut pod = bed.pod("bench", &format!("ready-{number}"));
        for container in 0..CONTAINERS_PER_POD {
            pod = pod.container(&format!("c{container}"), WORKLOAD_IMAGE, &["/workload", "sleep"]);
        }
        pod.start().await?;
    }
    let configuration = bench.path("ready.yml");
    let socket = bed.socket();
    std::fs::write(
        &configuration,
        format!(
            "runtimes: [cri: {}]\nprobes: {{ sockets: {{ command: [ss, -s], parse: none }} }}\n",
            socket.display()
        ),
    )?;
    let rounds = bench.rounds(50);
    let (dir, program) = (bench.path("ready-run"), bench.parachute.clone());
    // Asking without a pause would wait for the processor that the agent needs.
    let work = move || -> anyhow::Result<(Times, Times)> {
        let (mut starts, mut versions) = (Times::default(), Times::default());
        for _ in 0..rounds {
            let since = Instant::now();
            let version = Command::new(&program).arg("--version").stdout(Stdio::null()).status()?;
            ensure!(version.success(), "--version ended with {version}");
            versions.0.push(since.elapsed());
            starts.0.push(start(&program, &configuration, &dir)?);
        }
        Ok((starts, versions))
    };
    let (starts, versions) = tokio::task::spawn_blocking(work).await??;
    let containers = pods * (CONTAINERS_PER_POD + 1);
    Ok(vec![Row {
        what: "start to ready".to_owned(),
        measured: format!(
            "{}, least {}; with {containers} containers",
            starts.shown(),
            shown(starts.quantile(0))
        ),
        beside: format!("the program printing its version: {}", versions.shown()),
        value: starts.median().as_secs_f64() * 1e3,
        figure: Figure::Time("ms"),
        target: Target::AtMost(150.0),
    }])
}

/// Until it says that it is ready, which is after the first scan. The agent is ended then.
fn start(
    program: &std::path::Path,
    configuration: &std::path::Path,
    dir: &std::path::Path,
) -> anyhow::Result<Duration> {
    let address = free_address()?;
    let mut command = Command::new(program);
    command.args(["agent", "--web.allow-unauthenticated", "--web.listen-address", &address.to_string()]);
    command.arg("--config.file").arg(configuration).arg("--run-directory").arg(dir.join("run"));
    command.arg("--storage.path").arg(dir.join("storage"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    std::fs::create_dir_all(dir)?;
    let since = Instant::now();
    let mut agent = Started(command.spawn().context("starting the agent")?);
    let took = loop {
        if is_ready(address) {
            break since.elapsed();
        }
        ensure!(agent.0.try_wait()?.is_none(), "the agent has ended");
        ensure!(since.elapsed() < DEADLINE, "the agent is not ready in {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(1));
    };
    kill(Pid::from_raw(i32::try_from(agent.0.id())?), Signal::SIGTERM)?;
    let since = Instant::now();
    while agent.0.try_wait()?.is_none() {
        ensure!(since.elapsed() < DEADLINE, "the agent does not end within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(took)
}

/// One that has not ended by itself is killed; its keeper ends the others.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn is_ready(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(b"GET /-/ready HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.lines().next().is_some_and(|line| line.contains(" 200 ")))
    };
    ask().unwrap_or(false)
}
