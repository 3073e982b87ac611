//! The terminal of the person who looks into a hostile container.

use std::time::Duration;

use testbed::{Kind, WORKLOAD_IMAGE};

use super::tried;
use crate::common::{self, ONE_PROBE, Rig};
use crate::exec_terminal::Person;

/// 22: A process prints what a terminal obeys or answers: the clipboard (OSC 52), the title, questions for its attributes, its
/// cursor and its size (DA, DSR, CSI t, DECRQSS). And one with all of the host's capabilities types into its controlling terminal
/// (`TIOCSTI`, `ioctl_tty(2)`), which no session of its own keeps it from. The terminal inside is a new pseudo-terminal, what it
/// prints is filtered, and the person's is nobody's controlling terminal there: it is shown text, and gets no input.
#[tokio::test(flavor = "multi_thread")]
async fn a22_a_persons_terminal_obeys_nobody_else() {
    let rig = Rig::new().await;
    let agent = rig.agent(ONE_PROBE).await;
    let pod = rig.bed.pod("default", "curlybox");
    let pod = pod.container("curlybox", WORKLOAD_IMAGE, &["/workload", "sleep"]).start().await.unwrap();
    common::knows(&agent, &[pod]).await;
    let folder = tempfile::tempdir().unwrap();
    let person = Person::at(folder.path(), &agent);
    person.enters();

    let title = person.tmux.title().unwrap();
    person.types(r"printf '\033]52;c;ZXZpbA==\007\033]2;evil\007\033[c\033[6n\033[21t\033[>c\033P$qm\033\\'");
    assert_eq!((person.tmux.clipboard().unwrap().as_str(), person.tmux.title().unwrap()), ("", title));
    // An answer of the terminal's would now stand at the prompt.
    let typed = person.types("echo");
    assert_eq!(typed.lines().count(), 3, "{typed}");

    // It types into the terminal inside, which ends here.
    let inject = r"perl -e 'ioctl(STDIN, 0x5412, $_) for split //, qq(echo injected\n)'; echo status $?";
    person.sees(inject, "status");
    person.sees("exit 0", "status 0");
    std::thread::sleep(Duration::from_millis(300));
    let outside = person.types("echo outside");
    assert!(!outside.contains("injected"), "{outside}");
    for attack in ["OSC 52", "a title", "questions to the terminal", "TIOCSTI"] {
        tried(&format!("a22 {attack}"), &[Kind::Default]);
    }
    drop(person);
    rig.finish(agent);
}
