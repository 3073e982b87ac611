//! What becomes of a container of Docker's or Podman's in its life: paused, started again, made anew; and one with a systemd in it.

use testbed::{Agent, Engine};

use super::engines::{Answer, EngineRig, in_table, lines, named, refused, run, ways};
use super::{SOON, eventually, exec};

/// A frozen container is looked at as any other, and what hangs ends by its deadline: a run's processes are in cgroups of
/// the launcher's, which nobody freezes.
pub(crate) async fn paused<E: Engine>(rig: &EngineRig<E>, agent: &Agent) {
    let container = rig.listener("frozen", &["--network=none"]);
    named(agent, &container.id, ["", "", "frozen"]).await;
    eventually("it listens", SOON, async || {
        let found = lines(&run(agent, "joined-sockets", "frozen").await).len();
        if found == 3 { Ok(()) } else { Err(format!("{found} listeners")) }
    })
    .await;
    rig.engine.ask(&["pause", "frozen"]).unwrap();
    for probe in ["joined-sockets", "observer-sockets"] {
        assert_eq!(lines(&run(agent, probe, "frozen").await).len(), 3, "{probe}");
    }
    assert_eq!(lines(&run(agent, "observer-processes", "frozen").await), ["workload"]);
    assert_eq!(run(agent, "joined-stuck", "frozen").await["outcome"], "timeout");
    let status = exec(agent, &["frozen", "sh", "-c", "exit 7"]).status().unwrap();
    assert_eq!(status.code(), Some(7));
    assert_eq!(super::processes_beside(container.pid), ["workload"], "nothing of ours stays");
    in_table("pause", Answer::Own, Answer::Own);
    rig.engine.ask(&["unpause", "frozen"]).unwrap();
    rig.engine.remove("frozen").unwrap();
}

/// Started again under its id, and made anew under its name: one container, one set of series, that of the new life.
pub(crate) async fn lives<E: Engine>(rig: &EngineRig<E>, agent: &Agent) {
    let first = rig.listener("again", &["--network=none"]);
    let row = named(agent, &first.id, ["", "", "again"]).await;
    series(agent).await;
    rig.engine.ask(&["restart", "-t", "0", "again"]).unwrap();
    let second = rig.engine.inspect("again").unwrap();
    assert!(second.id == first.id && second.pid != first.pid);
    let restarted = eventually("the second life is listed", SOON, async || {
        let now = named(agent, &second.id, ["", "", "again"]).await;
        if now["pid"] == second.pid { Ok(now) } else { Err(now.to_string()) }
    })
    .await;
    assert_ne!(restarted["start_ticks"], row["start_ticks"]);
    series(agent).await;
    rig.engine.remove("again").unwrap();
    let third = rig.listener("again", &["--network=none"]);
    assert_ne!(third.id, first.id);
    named(agent, &third.id, ["", "", "again"]).await;
    eventually("it is listed once", SOON, async || {
        let listed = super::containers(agent).await;
        if listed.iter().filter(|row| row["container"] == "again").count() == 1 {
            Ok(())
        } else {
            Err(format!("{listed:?}"))
        }
    })
    .await;
    series(agent).await;
    rig.engine.remove("again").unwrap();
}

/// A run's result is published once, in a page that Prometheus takes.
async fn series(agent: &Agent) {
    eventually("one series with three listeners", SOON, async || {
        run(agent, "listeners", "again").await;
        let page = agent.get("/metrics").await.unwrap().body;
        let samples = agent.scrape().await.unwrap();
        let labels = [("namespace", ""), ("pod", ""), ("container", "again")];
        let found: Vec<_> =
            super::select(&samples, "engine_listeners", &labels).map(|sample| sample.value).collect();
        assert!(found.len() <= 1, "{page}");
        if found == [3.0] { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    let page = agent.get("/metrics").await.unwrap().body;
    super::promtool(&page);
}

/// A whole systemd as the container's init, whose services have cgroups below the container's: all of it is the container.
/// As it is privileged or not, it stands so in the table of the docs.
pub(crate) async fn systemd_inside<E: Engine>(rig: &EngineRig<E>, agent: &Agent, options: &[&str]) {
    let is_privileged = options.contains(&"--privileged");
    let command = ["/usr/lib/systemd/systemd", "--system", "--unit=basic.target"];
    let options = [&["--network=none", "--env=container=oci"], options].concat();
    let container = rig.with_programs("booted", &options, &command);
    let row = named(agent, &container.id, ["", "", "booted"]).await;
    assert_eq!(row["pid"], container.pid, "its init is its systemd: {row}");
    let probe = if is_privileged { "observer-trusted" } else { "observer-processes" };
    eventually("systemd and its journal are seen as the container's", SOON, async || {
        let found = lines(&run(agent, probe, "booted").await);
        let has = |name: &str| found.iter().any(|found| found == name);
        if has("systemd") && has("systemd-journal") { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    let listed = super::containers(agent).await;
    let same = listed.iter().filter(|row| row["cgroup"].as_str().unwrap().contains(&container.id));
    assert_eq!(same.count(), 1, "one container, however many cgroups: {listed:?}");
    if is_privileged {
        refused(agent, "booted", container.pid).await;
        in_table("systemd inside, privileged", Answer::Refused, Answer::Refused);
    } else {
        ways(agent, "booted", &container).await;
        in_table("systemd inside", Answer::Own, Answer::Own);
    }
    rig.engine.remove("booted").unwrap();
}
