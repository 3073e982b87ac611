//! Files that others than root can change.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use testbed::Kind;

use super::inside::Tool;
use super::{Held, by_hand, tried};
use crate::common::Rig;

/// Who could change a file: its group, everybody, another owner.
const OTHERS: [(u32, u32, &str); 3] = [(0, 0o775, "group"), (0, 0o757, "everybody"), (1000, 0o755, "owner")];

fn give(path: &Path, owner: u32, mode: u32) {
    std::os::unix::fs::chown(path, Some(owner), None).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// 29: Who can change a tool can run anything with its rights: one that others than root can write to is not run, also
/// when that came after the configuration was read. It is opened once, and what was looked at is what runs (`execveat(2)`).
#[tokio::test(flavor = "multi_thread")]
async fn a29_a_tool_that_others_can_change_is_not_run() {
    let rig = Rig::new().await;
    let held = Held::all(&rig, &[Kind::Default, Kind::User, Kind::Nothing], &["/workload", "sleep"]).await;
    let tool = Tool::new();
    let calls = format!("command: [{}, kill]", tool.path().display());
    let joined = format!("{calls}, isolation: joined");
    let agent = rig.agent(&by_hand(&[("calls", &calls), ("joined", &joined)], "")).await;
    for (owner, mode, who) in OTHERS {
        give(&tool.path(), owner, mode);
        for one in &held {
            for probe in ["calls", "joined"] {
                let answer = one.run(&agent, probe).await;
                assert_eq!(answer["outcome"], "refused", "{who} {probe}: {answer}");
                assert!(answer["reason"].as_str().unwrap().contains("others than root"), "{answer}");
            }
        }
        let kinds: Vec<_> = held.iter().map(|one| one.kind).collect();
        tried(&format!("a29 a tool that its {who} can change"), &kinds);
    }
    give(&tool.path(), 0, 0o755);
    assert_eq!(held[0].run(&agent, "calls").await["outcome"], "ok");
    drop((held, tool));
    rig.finish(agent);
}

/// 29: The same for everything that the agent reads at its start and keeps: configuration, the folder of its sockets, the file
/// with its token, a tool and a folder above it. It does not start, and says which file and what to do.
#[tokio::test(flavor = "multi_thread")]
async fn a29_an_agent_does_not_start_on_what_others_can_change() {
    let rig = Rig::new().await;
    let tool = Tool::new();
    let folder = tool.path().parent().unwrap().to_owned();
    let configuration =
        rig.configuration(&by_hand(&[("tool", &format!("command: [{}, kill]", tool.path().display()))], ""));
    let run = rig.path("run");
    fs::create_dir(&run).unwrap();
    let token = rig.path("token");
    fs::write(&token, "0123456789abcdef0123").unwrap();
    let storage = folder.join("storage");
    fs::create_dir(&storage).unwrap();
    let good: [(&Path, u32); 6] = [
        (&configuration, 0o644),
        (&run, 0o700),
        (&storage, 0o700),
        (&token, 0o600),
        (&tool.path(), 0o755),
        (&folder, 0o755),
    ];
    for (path, mode) in good {
        give(path, 0, mode);
    }
    let start = || {
        let mut agent = Command::new("timeout");
        agent.args(["--signal=TERM", "10", env!("CARGO_BIN_EXE_parachute"), "agent", "--config.file"]);
        agent.arg(&configuration).arg("--run-directory").arg(&run).arg("--web.token-file").arg(&token);
        agent.arg("--storage.path").arg(&storage);
        let ended = agent.args(["--web.listen-address", "127.0.0.1:0"]).output().unwrap();
        (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
    };
    for (path, mode) in good {
        for (owner, more, who) in OTHERS {
            // Only the writing matters, but for the token, which is not to be read either.
            give(path, owner, mode | (more & 0o022));
            let (status, said) = start();
            assert!(
                status.is_some_and(|status| status != 124 && status != 0),
                "{path:?} {who}: {status:?} {said}"
            );
            assert!(
                said.contains(&path.display().to_string()) || is_above(path, &tool.path(), &said),
                "{path:?}: {said}"
            );
            give(path, 0, mode);
        }
    }
    for what in ["configuration", "folder of sockets", "token", "tool", "folder of a tool"] {
        println!(
            "tried: a29 a {what} that others can change, by its group, everybody or another owner: refused"
        );
    }
    drop(tool);
    rig.finish_alone();
}

/// What is above a tool is told with the tool's name.
fn is_above(path: &Path, tool: &Path, said: &str) -> bool {
    tool.starts_with(path) && said.contains(&tool.display().to_string())
}
