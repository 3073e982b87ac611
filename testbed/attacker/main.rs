//! The attacker: a hostile program inside a container, for the tests that show what it cannot do. Whatever works is said in
//! lines on the file that it is given; `hunt` looks for processes that are not the container's own.

mod deceive;
mod fuse;
mod hunt;
mod inside;
mod names;
mod nodes;
mod pids;
mod plant;
mod scan;
mod sys;

use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

const USAGE: &str = "\
usage: attacker VERB
  hunt FILE read         find foreign processes and try to read them, as root and as nobody
  hunt FILE limit        and to lower their limits
  hunt FILE harm         and to stop and kill them, too
  hunt FILE abort        raise their limit of a core dump and make them dump
  scan FILE WORD...      look for these words in the memory of foreign processes (needs SYS_PTRACE)
  proc WHAT              mount something else on /proc (needs SYS_ADMIN)
  plant MAJOR:MINOR      leave links, pipes, devices and endless files where others may look
  nodes FILE PATH:b|c:MAJOR:MINOR...
                         make device nodes (needs MKNOD)
  resolve                answer every name at 127.0.0.53 with 6.6.6.6
  hang                   serve a file at /hang/file that is never read to its end (needs SYS_ADMIN and /dev/fuse)
  calls                  as a tool: try system calls that an observer may not make
  kill                   as a tool: kill every process that has a number
  names                  use names that look like a tool's rows
  listen FIRST COUNT     listen on so many ports
  cgroups FOLDER ID      make a cgroup in one's own that is named as another container is
  post ADDRESS FILE BODY ask an agent to run something
  take PID CGROUP ID     on the host: start a container's init with this very pid
  stay ID                what that is";

fn main() -> ExitCode {
    // It may be called by bytes that are no text.
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let word = |n: usize| words.get(n).map_or("", String::as_str);
    let number = |n: usize| word(n).parse().unwrap_or(0);
    let done = match word(1) {
        "hunt" => hunt::hunt(word(2), word(3)),
        "scan" => scan::scan(word(2), words.get(3..).unwrap_or_default()),
        "nodes" => nodes::nodes(word(2), words.get(3..).unwrap_or_default()),
        "proc" => deceive::proc(word(2)),
        "plant" => plant::plant(word(2)),
        "resolve" => deceive::resolve(),
        "names" => names::names(),
        "name" => names::name(number(2)),
        "listen" => names::listen(number(2), number(3)),
        "cgroups" => deceive::cgroups(word(2), word(3)),
        "hang" => fuse::hang(),
        "calls" => inside::calls(),
        "kill" => {
            inside::kill();
            Ok(())
        }
        "post" => deceive::post(word(2), word(3), word(4)),
        "take" => pids::take(i64::from(number(2)), word(3), word(4)),
        "stay" => pids::stay(word(2)),
        _ => Err(io::Error::other(USAGE)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("attacker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn sleep() -> ! {
    loop {
        thread::sleep(Duration::from_hours(1));
    }
}
