//! Sets up logs on standard error.

use std::io::IsTerminal as _;

use anyhow::{Context as _, ensure};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::{LogFormat, Logging};

/// For the agent, as its flags say. A bare level is for this program; libraries speak from `info` on.
pub(super) fn start(logging: &Logging) -> anyhow::Result<()> {
    let bare = logging.level.parse::<LevelFilter>().is_ok();
    let directives = if bare { format!("info,parachute={}", logging.level) } else { logging.level.clone() };
    // A word alone would be taken for a module's name, and everything else would be silent.
    ensure!(
        bare || logging.level.contains('='),
        "--log.level {}: use error, warn, info, debug or trace",
        logging.level
    );
    let filter = EnvFilter::try_new(&directives)
        .with_context(|| format!("--log.level {}: use error, warn, info, debug or trace", logging.level))?;
    let registry = tracing_subscriber::registry().with(filter);
    match logging.format {
        LogFormat::Logfmt => registry
            .with(tracing_logfmt::builder().with_timestamp(true).layer().with_writer(std::io::stderr))
            .init(),
        LogFormat::Json => {
            registry
                .with(
                    tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr),
                )
                .init();
        }
    }
    Ok(())
}

/// For the verbs that a person runs, and for the launcher: warnings only, as plain lines.
pub(super) fn start_plain() {
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::WARN)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .without_time()
        .with_target(false)
        .init();
}
