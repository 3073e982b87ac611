//! The Debian package on a Debian of its own, which a real systemd boots: installed, running, scraped, upgraded, removed, and
//! nothing left of it after a purge. `cargo xtask test` makes the packages and that Debian.

use std::fs;
use std::path::Path;

use testbed::Snapshot;

use crate::common;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
#[tokio::test]
async fn a_debian_package_comes_works_and_goes() {
    let alone = tokio::task::spawn_blocking(testbed::alone).await.unwrap().unwrap();
    let before = Snapshot::take();
    let folder = tempfile::Builder::new().prefix("pt-").tempdir().unwrap();
    let root = Path::new(ROOT);
    let version = env!("CARGO_PKG_VERSION");
    let one = root.join(format!("dist/parachute_{version}-1_amd64.deb"));
    let two = root.join(format!("target/deb-test/parachute_{version}-2_amd64.deb"));
    for part in [&one, &two] {
        assert!(part.exists(), "{}: cargo xtask test makes it", part.display());
    }
    let files = vec![
        (one, "/root/one.deb"),
        (two, "/root/two.deb"),
        (root.join("tests/package/job.sh"), "/root/job"),
        ("/usr/bin/prometheus".into(), "/usr/bin/prometheus"),
    ];
    let place = folder.path().to_owned();
    let boot = move || common::booted::boot("package-test", &place, &files);
    let said = tokio::task::spawn_blocking(boot).await.unwrap();
    assert!(said.ends_with("nothing is left\n"), "{said}");
    common::promtool(&fs::read_to_string(folder.path().join("shared/metrics")).unwrap());
    drop(folder);
    assert_eq!(before.leftovers(), [""; 0]);
    drop(alone);
}
