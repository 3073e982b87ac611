//! Containers' names complete in real shells, with what the running agent knows; the man pages are man pages.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use testbed::{Agent, Tmux};

use crate::common;

/// For `parachute` on the path and its agent's sockets.
fn variables(agent: &Agent) -> [(&'static str, String); 2] {
    let program = Path::new(env!("CARGO_BIN_EXE_parachute")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    [("PATH", path), ("PARACHUTE_RUN_DIRECTORY", agent.run_directory().to_str().unwrap().to_owned())]
}

fn said(agent: &Agent, words: &[&str]) -> String {
    let output = Command::new(words[0])
        .args(&words[1..])
        .envs(variables(agent))
        .env("TERM", "dumb")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The agent knows `cart` in two pods and `web` in `shop/cart-0`.
pub(crate) fn names_complete(agent: &Agent) {
    let bash = |line: &str| {
        let script = format!(
            "source <(parachute completions bash); COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             COMP_TYPE=9; _clap_complete_parachute parachute \"${{COMP_WORDS[-1]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        said(agent, &["bash", "-c", &script])
    };
    let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
    assert_eq!(lines(&bash("parachute exec w")), ["web"]);
    assert_eq!(lines(&bash("parachute exec --user nobody shop/cart-1")), ["shop/cart-1/cart"]);
    assert_eq!(
        lines(&bash("parachute exec shop/")),
        ["shop/cart-0/cart", "shop/cart-0/web", "shop/cart-1/cart"]
    );
    assert_eq!(lines(&bash("parachute run sockets --container w")), ["web"]);
    assert!(lines(&bash("parachute exec web nsent")).contains(&"nsenter".to_owned()), "commands of the host");
    assert_eq!(lines(&bash("parachute exec --names")), ["--namespaces"]);

    let fish =
        said(agent, &["fish", "-c", "parachute completions fish | source; complete -C 'parachute exec we'"]);
    assert_eq!(lines(&fish), ["web"]);

    let folder = tempfile::tempdir().unwrap();
    let variables = variables(agent);
    let variables: Vec<_> = variables.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let zsh = Tmux::start(folder.path(), (120, 20), &variables, &["zsh", "-f"]).unwrap();
    zsh.send(
        "PS1='zsh> '; autoload -U compinit && compinit -u -D; source <(parachute completions zsh); echo set",
    )
    .unwrap();
    zsh.wait_for("zsh is set up", common::SOON, |screen| screen.contains("\nset\n")).unwrap();
    zsh.clear().unwrap();
    zsh.keys(&["-l", "parachute exec shop/cart-1"]).unwrap();
    zsh.keys(&["Tab"]).unwrap();
    zsh.wait_for("zsh completes", common::SOON, |screen| screen.contains("exec shop/cart-1/cart")).unwrap();
}

/// An agent that hangs keeps nobody from typing, and nothing is said into the line.
pub(crate) fn a_hung_agent_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(folder.path().join("agent.sock")).unwrap();
    let since = std::time::Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_parachute"))
        .args(["--", "parachute", "exec", "w"])
        .envs([("COMPLETE", "bash"), ("_CLAP_COMPLETE_INDEX", "2"), ("_CLAP_COMPLETE_COMP_TYPE", "9")])
        .env("PARACHUTE_RUN_DIRECTORY", folder.path())
        .output()
        .unwrap();
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
}

/// man(1) has nothing to warn of, and finds what `--help` says.
pub(crate) fn man_pages(agent: &Agent) {
    for (page, parts) in [
        ("parachute man", &["parachute-exec(1)", "SUBCOMMANDS"][..]),
        (
            "parachute man exec",
            &["Exit status: the command's own", "parachute exec web ss -tanp", "--namespaces"],
        ),
        ("parachute man ps", &["--output"]),
    ] {
        let shown = said(
            agent,
            &["bash", "-c", &format!("{page} | groff -man -Tascii -ww -P-c 2>&1 | sed 's/.\\x08//g'")],
        );
        assert!(
            !shown.contains("warning") && parts.iter().all(|part| shown.contains(part)),
            "{page}: {shown}"
        );
    }
    let none = Command::new(env!("CARGO_BIN_EXE_parachute")).args(["man", "launcher"]).output().unwrap();
    assert!(
        !none.status.success() && String::from_utf8_lossy(&none.stderr).contains("there are agent, ps"),
        "{none:?}"
    );
}
