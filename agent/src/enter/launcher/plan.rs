//! What a run executes: program, words and environment, as an order to the stub wants them.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;

use crate::config::Probe;

/// The whole environment of a probe's command: the same on every host, so that outputs can be parsed.
const ENVIRONMENT: [&CStr; 5] = [
    c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    c"LC_ALL=C",
    c"HOME=/",
    c"TERM=dumb",
    c"COLUMNS=4096",
];

/// Besides it: which process of those in its /proc the command is to look into, in digits. Of a container that is mostly 1;
/// of a service that shares the host's processes it is one of many.
pub(in crate::enter) const TARGET_PID: &str = "PARACHUTE_TARGET_PID";

/// Program, argv and environment as execve(2) wants them.
#[derive(Clone, Debug)]
pub(in crate::enter) struct Image {
    /// Tried in this order; the first that is there is executed.
    pub(in crate::enter) programs: Vec<CString>,
    pub(in crate::enter) arguments: Vec<CString>,
    pub(in crate::enter) environment: Vec<CString>,
    pub(in crate::enter) workdir: CString,
}

impl Image {
    /// `None` if an argument holds a NUL byte, which the configuration check refuses.
    pub(super) fn of(probe: &Probe, target_pid: u32) -> Option<Self> {
        let target = CString::new(format!("{TARGET_PID}={target_pid}")).ok()?;
        let environment = ENVIRONMENT.map(CStr::to_owned).into_iter().chain([target]).collect();
        Some(Self {
            programs: vec![CString::new(probe.program.as_os_str().as_bytes()).ok()?],
            arguments: probe.command.iter().map(|a| CString::new(a.as_str()).ok()).collect::<Option<_>>()?,
            environment,
            workdir: c"/".to_owned(),
        })
    }
}
