//! What a container's device nodes lead an observer to.

use std::path::Path;

use testbed::{Agent, Kind};

use super::disk::Disk;
use super::{Held, by_hand, stdout};
use crate::common::{self, Rig, SOON};

const SECRET: &str = "what is on the host's disk";

/// 31: A container with MKNOD makes nodes of the host's devices, which the rule of its own cgroup keeps it from opening
/// (the controller of cgroup v1, a `BPF_PROG_TYPE_CGROUP_DEVICE` program on v2). An observer that is sent to them below
/// `/proc/PID/root` is in another cgroup: its own has a rule by which only the devices of its own root open, whatever their
/// nodes are called. By the program, and by the controller where there is no cgroup v2.
#[tokio::test(flavor = "multi_thread")]
async fn a31_a_node_of_a_containers_leads_an_observer_to_no_device() {
    let rig = Rig::new().await;
    let disk = Disk::new(&rig, SECRET);
    let block = format!("/disk:b:{}", disk.number());
    // A disk, /dev/mem, /dev/kmsg, /dev/tty0, /dev/net/tun, /dev/fuse: none that does something when it is opened.
    let bad = ["mem:c:1:1", "kmsg:c:1:11", "tty:c:4:0", "tun:c:10:200", "fuse:c:10:229"];
    let good = ["same:c:1:3", "zeroes:c:1:5"];
    let nodes: Vec<_> = bad.iter().chain(&good).map(|node| format!("/{node}")).chain([block]).collect();
    let words: Vec<_> =
        ["/attacker", "nodes", "/out"].into_iter().chain(nodes.iter().map(String::as_str)).collect();
    let held = Held::start(&rig, Kind::Default, "default-0", &words).await;
    common::eventually("the nodes are there", SOON, async || match held.file("/out") {
        said if said.ends_with("done\n") => Ok(()),
        said => Err(said),
    })
    .await;
    let said = held.file("/out");
    assert_eq!(said.matches("made true").count(), nodes.len(), "{said}");
    assert!(said.contains("/disk made true opened false"), "{said}");
    // Who is in no cgroup with a rule can open it: the test is one of something.
    assert!(held.file("/disk").starts_with(SECRET));

    let names = ["disk"].into_iter().chain(bad.iter().filter_map(|node| node.split(':').next()));
    let names: Vec<_> =
        names.map(|name| (name, format!("command: [head, -c, '64', /proc/1/root/{name}]"))).collect();
    let own = "shell: 'cat /dev/null /proc/1/root/same; for device in /dev/zero /dev/full /dev/random /dev/urandom \
               /proc/1/root/zeroes; do head -c 8 $device | wc -c; done; echo x > /dev/null && echo written'";
    let joined = format!("command: [head, -c, '26', {}], isolation: joined", disk.device);
    let mut probes: Vec<_> = names.iter().map(|(name, probe)| (*name, probe.as_str())).collect();
    probes.extend([("own", own), ("joined", &joined)]);
    let configuration = by_hand(&probes, "");

    let try_all = async |agent: &Agent| {
        for (name, _) in &names {
            let answer = held.run(agent, name).await;
            assert_eq!((&answer["outcome"], stdout(&answer)), (&"nonzero".into(), ""), "{name}: {answer}");
            let stderr = answer["stderr"].as_str().unwrap();
            assert!(stderr.contains("cannot open"), "{name}: {answer}");
            assert!(stderr.contains("Operation not permitted"), "{name}: {answer}");
        }
        let answer = held.run(agent, "own").await;
        assert_eq!(stdout(&answer), "8\n8\n8\n8\n8\nwritten\n", "{answer}");
        let answer = held.run(agent, "joined").await;
        assert_eq!(stdout(&answer), SECRET, "a joined command has the host's devices: {answer}");
    };
    let agent = rig.agent(&configuration).await;
    try_all(&agent).await;
    drop(agent);
    if !Path::new("/sys/fs/cgroup/devices").exists() {
        // There is nothing to go by instead.
        println!("NOT TESTED: this machine has no cgroup v1");
        drop((held, disk));
        return rig.finish_alone();
    }

    let wrapper = rig.script(
        "exec unshare --mount bash -c 'umount $(findmnt -n -o TARGET -t cgroup2) && exec \"$0\" \"$@\"' \"$AGENT\" \"$@\"\n",
    );
    let agent = rig.agent_by(&wrapper, &configuration).await;
    let groups = common::run_cgroups();
    assert!(groups.iter().any(|group| group.starts_with("/sys/fs/cgroup/devices/parachute")), "{groups:?}");
    try_all(&agent).await;
    drop((held, disk));
    rig.finish(agent);
}
