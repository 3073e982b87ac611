//! The section `targets:`.

use std::path::PathBuf;

use globset::{GlobBuilder, GlobMatcher};

use super::Checker;
use crate::config::error::Place;
use crate::config::raw::RawNames;
use crate::config::raw::targets::RawTargets;
use crate::config::targets::Targets;
use crate::config::yaml::at::{At, Tried};

/// Patterns under one key. Each is tried on each cgroup.
const MOST: usize = 64;
/// The longest pattern, in bytes.
const LONGEST: usize = 1024;
/// What the kernel takes for a path's component.
const LONGEST_COMPONENT: usize = 255;

/// A key's list as it is written.
type Raw = Option<Tried<At<RawNames>>>;

impl Checker<'_> {
    pub(super) fn targets(&self, raw: Option<&At<RawTargets>>) -> Targets {
        let Some(At { place, value: raw }) = raw else { return Targets::default() };
        let keys = [&raw.services, &raw.machines, &raw.lxc, &raw.cgroups, &raw.pid_files];
        if keys.iter().all(|key| key.is_none()) {
            let message = "names none; write some, as in services: [nginx.service], or remove it";
            self.found.add(place, message);
        }
        let names = |key: &Raw, check: fn(&str) -> Result<(), String>| {
            self.listed(key, |text| check(text).and_then(|()| glob(text)))
        };
        Targets {
            services: names(&raw.services, service),
            machines: names(&raw.machines, name),
            lxc: names(&raw.lxc, name),
            cgroups: names(&raw.cgroups, cgroup),
            pid_files: self.listed(&raw.pid_files, pid_file),
        }
    }

    fn listed<T>(&self, key: &Raw, read: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let Some(At { place, value: listed }) = key.as_ref().and_then(Tried::get) else { return Vec::new() };
        if listed.is_empty() {
            self.found.add(place, "the list is empty; name some or remove it");
        }
        if listed.len() > MOST {
            let message =
                format!("{} patterns; write at most {MOST}, with `*` for what they share", listed.len());
            self.found.add(place, message);
        }
        let mut all = Vec::new();
        let mut seen: Vec<&str> = Vec::new();
        for At { place, value } in listed.iter().filter_map(Tried::get) {
            self.twice(place, value, &seen);
            seen.push(value);
            all.extend(self.found.ok(place, bounded(value).and_then(|()| read(value))));
        }
        all
    }

    fn twice(&self, place: &Place, value: &str, seen: &[&str]) {
        if seen.contains(&value) {
            self.found.add(place, format!("{value:?} is listed twice; remove one of the two"));
        }
    }
}

fn bounded(text: &str) -> Result<(), String> {
    match text {
        "" => Err("the name is empty; write `*` for anything".to_owned()),
        _ if text.len() > LONGEST => Err(format!("it is longer than {LONGEST} bytes; shorten it with `*`")),
        _ if text.contains(char::is_control) => {
            Err(format!("{text:?} holds a control character, which no name has; remove it"))
        }
        _ => Ok(()),
    }
}

fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '[', '{'])
}

fn service(text: &str) -> Result<(), String> {
    if text.contains('/') {
        return Err(format!("{text:?} is a path; write a unit's name, or the path under cgroups:"));
    }
    let other = [".scope", ".slice", ".socket", ".timer", ".mount", ".target", ".path", ".swap", ".device"]
        .into_iter()
        .find(|suffix| text.ends_with(suffix));
    if let Some(suffix) = other {
        return Err(format!(
            "{text:?} is a {} and no service; write a name that ends in .service, or the unit's path under cgroups:",
            &suffix[1..]
        ));
    }
    if !is_pattern(text) && text.strip_suffix(".service").is_none() {
        return Err(format!("{text:?} is no service's name; write {text}.service"));
    }
    Ok(())
}

fn name(text: &str) -> Result<(), String> {
    if text.contains('/') {
        return Err(format!("{text:?} is a path; write a name, or the path under cgroups:"));
    }
    if text.len() > LONGEST_COMPONENT {
        return Err(format!(
            "it is longer than {LONGEST_COMPONENT} bytes, which no name is; shorten it with `*`"
        ));
    }
    Ok(())
}

fn cgroup(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err(format!(
            "{text:?} is not an absolute path; write it as in /proc/PID/cgroup, such as /batch/job1"
        ));
    }
    if text.starts_with("/sys/fs/cgroup") {
        return Err(format!("{text:?} is where a hierarchy is mounted; write the path below that"));
    }
    if text.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!("{text:?} has an empty part, a . or a ..; write the path without"));
    }
    if text == "/*" {
        return Err("/* is nearly everything on the host; name what is meant".to_owned());
    }
    Ok(())
}

fn pid_file(text: &str) -> Result<PathBuf, String> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!(
            "{text} is a process's number, which another one has soon; write a file that holds it, such as \
             /run/app.pid, or use parachute exec --pid {text}"
        ));
    }
    if !text.starts_with('/') {
        return Err(format!("{text:?} is not an absolute path; write the file's full path"));
    }
    if is_pattern(text) {
        return Err(format!("{text:?} is a pattern; write each file's full path"));
    }
    if text.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!("{text:?} has an empty part, a . or a ..; write the file's full path without"));
    }
    Ok(PathBuf::from(text))
}

/// A backslash stands for itself: units' names have some. `*` stands for no slash.
fn glob(text: &str) -> Result<GlobMatcher, String> {
    let glob = GlobBuilder::new(text).backslash_escape(false).literal_separator(true).build();
    glob.map(|glob| glob.compile_matcher())
        .map_err(|error| format!("{text:?} is not a glob: {}; use `*`, `?`, [a-z] and {{a,b}}", error.kind()))
}
