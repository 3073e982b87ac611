//! A real terminal for tests: a tmux server of its own, with one window whose keys are pressed and whose screen is read
//! from outside. Knows nothing of what runs in it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

/// How long tmux, and what runs in it, may take to go.
const GONE_WITHIN: Duration = Duration::from_secs(5);

/// A terminal of a given size. Dropping it hangs up, as closing a window does.
#[derive(Debug)]
pub struct Tmux {
    socket: PathBuf,
    server: u32,
}

impl Tmux {
    /// Runs `words` in a terminal of `columns` × `rows`. `folder` must be there; the server's socket is made in it. The
    /// environment is this process's with `variables` over it; TERM is tmux's own.
    pub fn start(
        folder: &Path,
        (columns, rows): (u16, u16),
        variables: &[(&str, &str)],
        words: &[&str],
    ) -> anyhow::Result<Self> {
        let socket = folder.join("tmux");
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let mut tmux = Command::new("tmux");
        tmux.arg("-S").arg(&socket).args(["-f", "/dev/null"]);
        // No status line: all rows are the window's. Escape sequences may set the clipboard, so that a test that says they
        // do not get through has something to prove.
        tmux.args(["set", "-g", "status", "off", ";", "set", "-g", "set-clipboard", "on", ";"]);
        tmux.args(["set", "-g", "default-terminal", "screen-256color", ";"]);
        tmux.args(["new-session", "-d", "-x", &columns, "-y", &rows, "-c", "/"]).args(words);
        tmux.env_remove("TMUX").envs(variables.iter().copied()).current_dir("/");
        let output = tmux.output().context("starting tmux (cargo xtask setup installs it)")?;
        ensure!(output.status.success(), "tmux: {}", String::from_utf8_lossy(&output.stderr));
        let mut started = Self { socket, server: 0 };
        started.server = started.display("#{pid}")?.parse().context("tmux does not tell its pid")?;
        Ok(started)
    }

    /// An interactive bash that reads no start-up file, with the prompt of root on Debian.
    pub fn shell(folder: &Path, size: (u16, u16), variables: &[(&str, &str)]) -> anyhow::Result<Self> {
        let variables = [&[("PS1", r"\u@\h:\w\$ "), ("LC_ALL", "C.UTF-8")], variables].concat();
        Self::start(folder, size, &variables, &["bash", "--norc", "--noprofile", "-i"])
    }

    /// Types `text` and presses Enter.
    pub fn send(&self, text: &str) -> anyhow::Result<()> {
        self.run(&["send-keys", "-l", "--", text])?;
        self.keys(&["Enter"])
    }

    /// Presses keys by tmux's names for them: `C-c`, `q`, `Enter`.
    pub fn keys(&self, keys: &[&str]) -> anyhow::Result<()> {
        self.run(&[&["send-keys"], keys].concat()).map(drop)
    }

    /// The visible text, without blanks at the ends of lines and without empty lines at its end.
    pub fn screen(&self) -> anyhow::Result<String> {
        let text = self.run(&["capture-pane", "-p"])?;
        let lines: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
        Ok(lines.join("\n"))
    }

    /// Forgets what the screen shows, so that the next look finds new text alone.
    pub fn clear(&self) -> anyhow::Result<()> {
        self.run(&["send-keys", "-R", ";", "clear-history"]).map(drop)
    }

    /// Waits until the screen is as `wanted` has it, and returns it.
    pub fn wait_for(
        &self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> anyhow::Result<String> {
        let within = within * crate::patience();
        let deadline = Instant::now() + within;
        loop {
            let screen = self.screen().with_context(|| format!("waiting for {what}"))?;
            if wanted(&screen) {
                return Ok(screen);
            }
            if Instant::now() > deadline {
                bail!("{what}: not within {within:?}; the screen shows:\n{screen}\n(end of the screen)");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn resize(&self, columns: u16, rows: u16) -> anyhow::Result<()> {
        self.run(&["resize-window", "-x", &columns.to_string(), "-y", &rows.to_string()]).map(drop)
    }

    /// Pid of the program that the terminal was started with.
    pub fn pid(&self) -> anyhow::Result<u32> {
        self.display("#{pane_pid}")?.parse().context("tmux does not tell the pid of its window's program")
    }

    /// The window's title, which programs may set.
    pub fn title(&self) -> anyhow::Result<String> {
        self.display("#{pane_title}")
    }

    /// tmux's clipboard; empty when there is none.
    pub fn clipboard(&self) -> anyhow::Result<String> {
        self.run(&["list-buffers", "-F", "#{buffer_sample}"])
    }

    fn display(&self, format: &str) -> anyhow::Result<String> {
        Ok(self.run(&["display-message", "-p", format])?.trim_end().to_owned())
    }

    fn run(&self, words: &[&str]) -> anyhow::Result<String> {
        let output = Command::new("tmux").arg("-S").arg(&self.socket).args(words).output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "tmux {}: {errors}", words.join(" "));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        // It fails when the window's program, and with it the server, has ended by itself.
        let _ = self.run(&["kill-server"]);
        let deadline = Instant::now() + GONE_WITHIN;
        while Path::new("/proc").join(self.server.to_string()).exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = std::fs::remove_file(&self.socket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn a_shell_is_typed_into_read_and_resized() {
        let folder = tempfile::tempdir().unwrap();
        let tmux = Tmux::shell(folder.path(), (90, 20), &[("COLOUR", "green")]).unwrap();
        tmux.wait_for("a prompt", SOON, |screen| screen.ends_with(":/#")).unwrap();
        tmux.send("stty size; echo $COLOUR").unwrap();
        tmux.wait_for("its size", SOON, |screen| screen.contains("\n20 90\ngreen\n")).unwrap();
        tmux.resize(100, 30).unwrap();
        tmux.send("stty size").unwrap();
        tmux.wait_for("its new size", SOON, |screen| screen.contains("\n30 100\n")).unwrap();
        tmux.send(r"printf '\033]52;c;aGVsbG8=\007\033]2;other\007'").unwrap();
        tmux.wait_for("the prompt again", SOON, |screen| screen.lines().count() == 7).unwrap();
        assert_eq!((tmux.clipboard().unwrap().trim(), tmux.title().unwrap().as_str()), ("hello", "other"));
        let error = tmux.wait_for("nothing", Duration::ZERO, |_| false).unwrap_err().to_string();
        assert!(error.contains("nothing: not within") && error.contains("stty size"), "{error}");
        let server = tmux.server;
        drop(tmux);
        assert!(!Path::new("/proc").join(server.to_string()).exists());
    }
}
