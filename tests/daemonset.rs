//! The DaemonSet's container as a kubelet would start it, with the rights that deploy/kubernetes/parachute.yaml gives it and
//! no others. From inside of it the agent does its main job, once with the host's programs and once with its image's.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};
use testbed::{NodeContainer, NodeMount, Pod, WORKLOAD_IMAGE};

use crate::common::{self, Rig, SOON};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// The folder of the runtime in the manifest; the private containerd has another one.
const RUNTIME: &str = "/run/containerd";
/// Not in the example: a command that is a process of its container, one that takes a packet from its network, and one that
/// tells the image's files from the host's.
const MORE_PROBES: &str = "
probes:
  joined: { command: [ps, -e], isolation: joined, parse: none }
  packets:
    command: [bash, -c, 'tcpdump -i lo -c 1 -w /dev/null & sleep 0.5; echo x >/dev/udp/127.0.0.1/9; wait $!']
    capabilities: [NET_RAW, SYS_PTRACE, DAC_READ_SEARCH]
    parse: none
  files: { command: [ls, /usr/share/doc/parachute/parachute.example.yml], parse: none }
";

/// The objects of one kind in the manifest.
fn object(kind: &str) -> Value {
    let text = fs::read_to_string(Path::new(ROOT).join("deploy/kubernetes/parachute.yaml")).unwrap();
    let all: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    all.into_iter().find(|one| one["kind"] == kind).unwrap()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// An agent in a pod, started from the manifest.
struct Agent<'a> {
    rig: &'a Rig,
    pod: Pod,
}

impl<'a> Agent<'a> {
    async fn start(rig: &'a Rig, probe_root: &str, image: &str) -> Self {
        let archive = Path::new(ROOT).join("dist").join(if image.ends_with("-tools") {
            "parachute-image-tools.tar"
        } else {
            "parachute-image.tar"
        });
        assert!(archive.exists(), "{}: cargo xtask image makes it", archive.display());
        rig.bed.import(&archive, &[image]).await.unwrap();
        // As systemd makes all mounts of a node; containerd refuses a mount that is to follow one that is not.
        let folder = rig.bed.socket().parent().unwrap().to_owned();
        for flags in [MsFlags::MS_BIND | MsFlags::MS_REC, MsFlags::MS_SHARED] {
            mount(Some(&folder), &folder, None::<&str>, flags, None::<&str>).unwrap();
        }
        let container = Self::container(rig, probe_root, image);
        let pod = rig.bed.start_on_node("parachute", "parachute-x", &container).await.unwrap();
        let agent = Self { rig, pod };
        common::eventually("the agent in the pod is ready", SOON, async || {
            match agent.ask("/-/ready", "", None) {
                (200, _) => Ok(()),
                other => Err(format!("{other:?}; {}", agent.log())),
            }
        })
        .await;
        agent
    }

    /// What the kubelet makes of the manifest.
    fn container(rig: &Rig, probe_root: &str, image: &str) -> NodeContainer {
        let spec = &object("DaemonSet")["spec"]["template"]["spec"];
        let container = &spec["containers"][0];
        let security = &container["securityContext"];
        let capabilities = &security["capabilities"];
        let mut added = texts(&capabilities["add"]);
        // To see by hand what each of them is for.
        let without = std::env::var("PARACHUTE_TEST_WITHOUT").unwrap_or_default();
        added.retain(|name| !without.split(',').any(|one| one == name));
        let memory = container["resources"]["limits"]["memory"].as_str().unwrap();
        let environment = container["env"].as_array().unwrap().iter().map(|variable| {
            assert_eq!(variable["valueFrom"]["fieldRef"]["fieldPath"], "spec.nodeName");
            (variable["name"].as_str().unwrap().to_owned(), "node-1".to_owned())
        });
        let mounts = container["volumeMounts"].as_array().unwrap().iter().map(|mount| {
            let volumes = spec["volumes"].as_array().unwrap();
            let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
            NodeMount {
                host: Self::volume(rig, volume, probe_root),
                container: Self::moved(rig, mount["mountPath"].as_str().unwrap()),
                read_only: mount["readOnly"] == true,
                follows_host: mount["mountPropagation"] == "HostToContainer",
            }
        });
        assert_eq!(container["image"], "parachute:0.1.0");
        NodeContainer {
            name: "parachute".into(),
            image: image.into(),
            args: texts(&container["args"]),
            environment: environment.collect(),
            mounts: mounts.collect(),
            host_pid: spec["hostPID"] == true,
            added,
            dropped: texts(&capabilities["drop"]),
            privileged: security["privileged"] == true,
            read_only_root: security["readOnlyRootFilesystem"] == true,
            runtime_seccomp: security["seccompProfile"]["type"] == "RuntimeDefault",
            no_new_privileges: security["allowPrivilegeEscalation"] == false,
            memory: memory.strip_suffix("Mi").unwrap().parse::<i64>().unwrap() << 20,
        }
    }

    fn moved(rig: &Rig, path: &str) -> String {
        if path == RUNTIME {
            rig.bed.socket().parent().unwrap().display().to_string()
        } else {
            path.to_owned()
        }
    }

    /// The folder that the kubelet would mount for a volume.
    fn volume(rig: &Rig, volume: &Value, probe_root: &str) -> PathBuf {
        let folder = rig.path(&format!("volume-{}", volume["name"].as_str().unwrap()));
        if let Some(path) = volume["hostPath"]["path"].as_str() {
            // Of the host's folders the agent gets those that are there, but none to write what outlives the test.
            if volume["hostPath"]["type"] == "DirectoryOrCreate" {
                fs::create_dir_all(&folder).unwrap();
                return folder;
            }
            return Self::moved(rig, path).into();
        }
        fs::create_dir_all(&folder).unwrap();
        if volume["emptyDir"].is_object() {
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
            return folder;
        }
        for source in volume["projected"]["sources"].as_array().unwrap() {
            if source["configMap"]["name"] == "parachute" {
                let data = object("ConfigMap")["data"].clone();
                for (name, text) in data.as_object().unwrap() {
                    let text = Self::configured(rig, text.as_str().unwrap(), probe_root);
                    Self::write(&folder.join(name), &text);
                }
            }
            for item in source["secret"]["items"].as_array().into_iter().flatten() {
                let key = item["key"].as_str().unwrap();
                Self::write(&folder.join(item["path"].as_str().unwrap()), &token(key));
            }
        }
        folder
    }

    /// With the projected volume's mode.
    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o400)).unwrap();
    }

    /// The manifest's configuration, for the private containerd.
    fn configured(rig: &Rig, text: &str, probe_root: &str) -> String {
        let runtimes = format!("runtimes: [{{cri: {}}}]", rig.bed.socket().display());
        text.replace("probe_root: host", &format!("probe_root: {probe_root}"))
            .replace("runtimes: auto", &runtimes)
            .replace("\nprobes:\n", MORE_PROBES)
            .replace("    http: {}\n    probes: [", "    http: {}\n    probes: [joined, packets, files, ")
    }

    /// From the pod's own network, as the host has no route to it.
    fn ask(&self, path: &str, token_of: &str, body: Option<&Value>) -> (u16, String) {
        let mut curl = Command::new("nsenter");
        curl.arg(format!("--net=/proc/{}/ns/net", self.pod.sandbox.pid));
        curl.args(["curl", "--silent", "--max-time", "10", "--write-out", "\n%{http_code}"]);
        if !token_of.is_empty() {
            curl.args(["--header", &format!("Authorization: Bearer {}", token(token_of))]);
        }
        if let Some(body) = body {
            curl.args(["--json", &body.to_string()]);
        }
        let output = curl.arg(format!("http://{}:10068{path}", self.pod.ip)).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    fn run(&self, probe: &str) -> Value {
        let body = json!({ "probe": probe, "target": { "pod": "cart-0", "container": "main" } });
        let (status, answer) = self.ask("/api/v1/run", "view", Some(&body));
        assert_eq!(status, 200, "{probe}: {answer}");
        serde_json::from_str(&answer).unwrap()
    }

    /// As `kubectl exec` would.
    fn exec(&self, words: &[&str]) -> String {
        let mut ctr = Command::new("ctr");
        ctr.arg("--address").arg(self.rig.bed.socket()).args([
            "--namespace",
            "k8s.io",
            "task",
            "exec",
            "--exec-id",
            "x",
        ]);
        let output = ctr.arg(&self.pod.containers[0].id).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn log(&self) -> String {
        let folder = self.rig.bed.socket().with_file_name("log");
        let pods = fs::read_dir(folder).into_iter().flatten().flatten();
        pods.filter_map(|pod| fs::read_to_string(pod.path().join("parachute/0.log")).ok()).collect()
    }
}

fn token(of: &str) -> String {
    format!("{of}-0123456789abcdef")
}

/// The main job: a start is seen, a probe runs at it and another on request, and Prometheus reads the numbers.
async fn does_its_job(rig: &Rig, agent: &Agent<'_>) {
    let workload = ["/workload", "listen", "2", "0"];
    let cart =
        rig.bed.pod("shop", "cart-0").container("main", WORKLOAD_IMAGE, &workload).start().await.unwrap();
    let labels = [("namespace", "shop"), ("pod", "cart-0"), ("container", "main")];
    common::eventually("the probe at the start has run", SOON, async || {
        let (status, text) = agent.ask("/metrics", "prometheus", None);
        assert_eq!(status, 200, "{text}");
        let samples = testbed::samples(&text).unwrap();
        let starts = common::sum(&samples, "parachute_probe_runs_total", &[("trigger", "at-start")]);
        let seen = common::select(&samples, "parachute_tcp_sockets", &labels).count();
        if starts >= 3.0 && seen > 0 {
            Ok(())
        } else {
            Err(format!("{starts} runs, {seen} series; {}", agent.log()))
        }
    })
    .await;
    let (_, text) = agent.ask("/metrics", "prometheus", None);
    common::promtool(&text);

    let listeners = agent.run("listeners");
    assert_eq!(listeners["outcome"], "ok", "{listeners}");
    assert_eq!(listeners["families"][0]["samples"].as_array().unwrap().len(), 2, "{listeners}");
    for probe in [
        "sockets",
        "connections",
        "processes",
        "interfaces",
        "kernel_counters",
        "process_tree",
        "joined",
        "packets",
    ] {
        let ran = agent.run(probe);
        assert_eq!(ran["outcome"], "ok", "{probe}: {ran}");
    }
    let joined = agent.run("joined");
    assert!(joined["stdout"].as_str().unwrap().contains("workload"), "{joined}");
    assert_eq!(common::processes_beside(cart.containers[0].pid), ["workload"]);

    // Each token has its own role, and nothing is open without one.
    let body = json!({ "probe": "sockets", "target": { "pod": "cart-0", "container": "main" } });
    for (path, who, body, status) in [
        ("/metrics", "", None, 401),
        ("/metrics", "alertmanager", None, 403),
        ("/metrics", "peers", None, 403),
        ("/api/v1/run", "prometheus", Some(&body), 403),
        ("/-/healthy", "", None, 200),
    ] {
        assert_eq!(agent.ask(path, who, body).0, status, "{path} {who}");
    }
    let (_, targets) = agent.ask("/api/v1/sd", "prometheus", None);
    assert!(targets.contains(r#""__meta_parachute_node":"node-1""#), "{targets}");
    let listed = agent.exec(&["/usr/bin/parachute", "ps", "-o", "name"]);
    assert!(listed.lines().any(|line| line == "shop/cart-0/main"), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemonsets_pod_does_the_main_job_with_its_rights_alone() {
    let rig = Rig::new().await;
    let agent = Agent::start(&rig, "host", "parachute:0.1.0").await;
    does_its_job(&rig, &agent).await;
    // Its own image holds the file, and no program but the agent's.
    let files = agent.run("files");
    assert_eq!(files["outcome"], "nonzero", "{files}");
    agent.pod.clone().terminate(10).await.unwrap();
    rig.finish_alone();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_with_tools_needs_none_of_the_hosts() {
    let rig = Rig::new().await;
    let agent = Agent::start(&rig, "image", "parachute:0.1.0-tools").await;
    does_its_job(&rig, &agent).await;
    let files = agent.run("files");
    assert_eq!(files["outcome"], "ok", "{files}");
    agent.pod.clone().terminate(10).await.unwrap();
    rig.finish_alone();
}
