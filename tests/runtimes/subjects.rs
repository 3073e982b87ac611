//! The container that is looked into, of whichever runtime, and what is known of it from elsewhere than the agent.

use std::fmt;
use std::fs::File;
use std::path::Path;

use testbed::{Containerd, Docker, Engine, Podman, Rootless, WORKLOAD_IMAGE};

use crate::common;

/// `/workload listen` with so many listeners, and a client of which both ends are in the container.
pub(crate) const LISTENERS: u16 = 3;

/// The runtime, for the table.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) runtime: String,
    pub(crate) version: String,
    /// The driver of cgroups and the program that makes containers.
    pub(crate) how: String,
}

impl About {
    pub(crate) fn containerd(bed: &Containerd) -> Self {
        let driver = bed.driver();
        let how = format!("{}, {} {}", driver.cgroups, driver.program, driver.version().unwrap());
        Self { runtime: "containerd".into(), version: bed.version().unwrap(), how }
    }
}

/// What runs containers and is no containerd that the kubelet talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engines {
    Docker,
    /// By this program.
    Podman(&'static str),
    Rootless,
}

impl Engines {
    pub(crate) fn start(self, lock: File, folder: &Path) -> Box<dyn Engine> {
        match self {
            Self::Docker => Box::new(Docker::start_under(lock, folder, &[]).unwrap()),
            Self::Podman(program) => {
                let mut podman = Podman::start_under(lock, folder, program).unwrap();
                podman.serve().unwrap();
                Box::new(podman)
            }
            Self::Rootless => Box::new(Rootless::start_under(lock, folder).unwrap()),
        }
    }

    /// The line of the agent's configuration.
    pub(crate) fn runtimes(self, folder: &Path) -> String {
        let socket = |name: &str| folder.join(name).display().to_string();
        match self {
            Self::Docker => format!("runtimes: [{{docker: {}}}]\n", socket("docker.sock")),
            Self::Podman(_) => format!("runtimes: [{{podman: {}}}]\n", socket("podman.sock")),
            // The user's own storage is where it usually is.
            Self::Rootless => "runtimes: auto\n".to_owned(),
        }
    }

    pub(crate) fn about(self, engine: &dyn Engine) -> About {
        let ask = |format: &str| engine.ask(&["info", "--format", format]).unwrap();
        match self {
            Self::Docker => About {
                runtime: "docker".into(),
                version: short(&ask("{{.ServerVersion}}")),
                how: format!("{}, {}", ask("{{.CgroupDriver}}"), program(&ask("{{.DefaultRuntime}}"))),
            },
            Self::Podman(_) | Self::Rootless => About {
                runtime: if self == Self::Rootless { "podman rootless" } else { "podman" }.into(),
                version: short(&ask("{{.Version.Version}}")),
                how: format!(
                    "{}, {}",
                    ask("{{.Host.CgroupManager}}"),
                    program(&ask("{{.Host.OCIRuntime.Name}}"))
                ),
            },
        }
    }
}

/// The program's own name, where a bed puts a script before it: one that asks for a capability less.
fn program(told: &str) -> &str {
    let name = told.rsplit('/').next().unwrap_or(told);
    if name == "modest" { "runc" } else { name.trim_end_matches("-without-sys-resource") }
}

/// A version without what a distribution adds.
fn short(version: &str) -> String {
    version.split(['+', '~', '-']).next().unwrap_or(version).to_owned()
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.runtime, self.version, self.how)
    }
}

/// A running container as its runtime tells of it.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) id: String,
    pub(crate) pid: i32,
    /// `namespace`, `pod`, `container` and `image` as the agent should list them.
    pub(crate) names: [String; 4],
    /// Its own IPv4 address, if it has one.
    pub(crate) address: Option<String>,
}

impl Subject {
    pub(crate) async fn in_pod(bed: &Containerd) -> Self {
        let listen = ["/workload", "listen", &LISTENERS.to_string(), "1"];
        let pod = bed.pod("shop", "cart-0").label("tier", "front").container("main", WORKLOAD_IMAGE, &listen);
        let pod = pod.start().await.unwrap();
        let container = &pod.containers[0];
        Self {
            id: container.id.clone(),
            pid: container.pid,
            names: ["shop", "cart-0", "main", WORKLOAD_IMAGE].map(str::to_owned),
            address: Some(pod.ip.clone()),
        }
    }

    pub(crate) fn of_engine(which: Engines, engine: &dyn Engine) -> Self {
        let listen = ["/workload", "listen", &LISTENERS.to_string(), "1"];
        let container = engine.run("cart", &["--memory", "64m"], &listen).unwrap();
        // Without root it is the namespace's own that Podman does not tell.
        let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let address = engine.ask(&["inspect", "--format", format, "cart"]).unwrap();
        assert_eq!(address.is_empty(), which == Engines::Rootless, "{address}");
        Self {
            id: container.id,
            pid: container.pid,
            names: [&common::user_of(container.pid), "", "cart", WORKLOAD_IMAGE].map(str::to_owned),
            address: Some(address).filter(|address| !address.is_empty()),
        }
    }
}
