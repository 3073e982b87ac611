//! The commands of docs/ that want a node: root, a running agent with the configuration of docs/alert-recipes.md, and the
//! pod shop/cart-0 with a container `cart`. What needs more than that is in a table here, with the reason.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use testbed::WORKLOAD_IMAGE;

use crate::common::pages::{self, fits};
use crate::common::{self, Rig};

/// Programs of the pages that this test cannot run.
const NOT_RUN: &[(&str, &str)] = &[
    ("journalctl", "there is no journal here; the package's test boots a systemd and asks its journal"),
    ("systemctl", "there is no systemd here; the package's test boots one"),
    ("kubectl", "no cluster is to be had"),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_true_of_a_node() {
    let all = pages::all();
    let rig = Rig::new().await;
    let folder = rig.path("pages");
    fs::create_dir(&folder).unwrap();
    let recipes = all.iter().find(|page| page.name == "alert-recipes.md").unwrap();
    recipes.write_files(&folder);
    let agent = rig.agent(&everything(&fs::read_to_string(folder.join("parachute.yml")).unwrap())).await;
    let pod =
        rig.bed.pod("shop", "cart-0").container("cart", WORKLOAD_IMAGE, &["/workload", "listen", "2", "1"]);
    common::knows(&agent, &[pod.start().await.unwrap()]).await;

    let (run, storage) = (agent.run_directory().to_owned(), agent.run_directory().join("storage"));
    let (address, file) = (agent.address().to_string(), rig.path("parachute.yml"));
    // On the page's node all of it is at the usual places.
    let here = |command: &str| {
        let configured = format!("parachute run --config.file {}", file.display());
        let command = command.replace("127.0.0.1:10068", &address).replace("parachute run", &configured);
        let command = command.replace("/run/parachute", run.to_str().unwrap());
        let command = command.replace("/etc/parachute/parachute.yml", file.to_str().unwrap());
        let command = command.replace("/etc/parachute", folder.to_str().unwrap());
        command.replace("/var/lib/parachute", storage.to_str().unwrap())
    };
    let environment: [(&str, &Path); 2] =
        [("PARACHUTE_RUN_DIRECTORY", &run), ("PARACHUTE_STORAGE_PATH", &storage)];
    let (mut seen, mut wrong, mut count) = (BTreeSet::new(), String::new(), 0);
    for page in &all {
        for step in page.steps(true) {
            let program = step.command.split_whitespace().next().unwrap();
            if NOT_RUN.iter().any(|(name, _)| *name == program)
                || !seen.insert((step.command.clone(), step.shown.clone()))
            {
                continue;
            }
            let began = Instant::now();
            // What an alert has asked for comes a moment later.
            let said = loop {
                let came = pages::run(&here(&step.command), &folder, &environment);
                if fits(&step, &came) {
                    break None;
                }
                if began.elapsed() > Duration::from_secs(3) {
                    break Some(came.1);
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            };
            if let Some(said) = said {
                let _ = writeln!(
                    wrong,
                    "docs/{}: # {}\n{}it printed\n{said}",
                    page.name, step.command, step.shown
                );
            }
            println!("docs/{}: {:.1?} {}", page.name, began.elapsed(), step.command);
            count += 1;
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(count >= 40, "{count} commands");
    rig.finish(agent);
}

/// The page's triggers, with every probe that ships, as the runbooks run others too.
fn everything(page: &str) -> String {
    let files = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../probes")).unwrap();
    let names: Vec<_> =
        files.map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    let (include, rest) = page.split_once('\n').unwrap();
    assert!(include.starts_with("include: ["), "{include}");
    format!("include: [{}]\n{rest}", names.join(", "))
}
