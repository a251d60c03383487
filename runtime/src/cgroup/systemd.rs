//! A transient scope of systemd, delegated to the caller.
//!
//! Source: org.freedesktop.systemd1(5), systemd's `CGROUP_DELEGATION.md`.

use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, geteuid, getpid};

use super::Error;
use super::bus::{Bus, Call, ERROR, Message, REPLY, Reader, SIGNAL, Writer};

/// A scope to be started.
pub(super) struct Scope {
    /// Unit name, ending in `.scope`.
    pub unit: String,
    /// The slice it is to be in, if not the manager's default.
    pub slice: Option<String>,
}

const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const SYSTEMD: &str = "org.freedesktop.systemd1";
const DBUS: &str = "org.freedesktop.DBus";

/// The manager's own socket, and that of the message bus in front of it.
fn sockets(uid: Uid) -> (PathBuf, PathBuf) {
    if uid.is_root() {
        return (
            "/run/systemd/private".into(),
            "/run/dbus/system_bus_socket".into(),
        );
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR")
        .map_or_else(|| format!("/run/user/{uid}").into(), PathBuf::from);
    let bus = session_bus().unwrap_or_else(|| runtime.join("bus"));
    (runtime.join("systemd/private"), bus)
}

/// Connects to the manager itself (true), as systemctl does, or through the message bus.
fn connect(own: &Path, bus: &Path) -> Result<(Bus, bool), Error> {
    let failure = match Bus::connect(own) {
        Ok(bus) => return Ok((bus, true)),
        Err(error) => error,
    };
    let cure = "log in through PAM, or as root run: loginctl enable-linger USER";
    Bus::connect(bus).map(|bus| (bus, false)).map_err(|_| {
        Error::Systemd(format!(
            "no service manager answers at {} ({failure}); {cure}",
            own.display()
        ))
    })
}

/// The path in `DBUS_SESSION_BUS_ADDRESS`.
fn session_bus() -> Option<PathBuf> {
    let address = std::env::var("DBUS_SESSION_BUS_ADDRESS").ok()?;
    let path = address.strip_prefix("unix:path=")?;
    Some(path.split([',', ';']).next()?.into())
}

/// A connection to the service manager.
pub(super) struct Manager {
    bus: Bus,
    /// To itself, not through the message bus.
    direct: bool,
}

impl Manager {
    pub fn connect() -> Result<Self, Error> {
        let (own, public) = sockets(geteuid());
        let (mut bus, direct) = connect(&own, &public)?;
        if !direct {
            bus.call(&to_bus("Hello", "", Vec::new()))
                .map_err(|error| unanswered(&error))?;
        }
        Ok(Self { bus, direct })
    }

    /// Starts the scope with the calling process in it and returns when the manager has done so.
    pub fn start(&mut self, scope: &Scope) -> Result<(), Error> {
        self.run(scope).map_err(|error| unanswered(&error))
    }

    /// Moves a process of the caller's user into a cgroup of a unit that was delegated to the caller.
    pub fn attach(&mut self, directory: &Path, pid: i32) -> Result<(), Error> {
        let failed = |what: &dyn std::fmt::Display| {
            Error::Blocked(format!(
                "systemd did not move process {pid} into {}: {what}; it moves none of another user than the caller's, while a sandbox \
                 that is started with a limit has its control group from the beginning",
                directory.display()
            ))
        };
        let (unit, inside) = unit_of(directory).ok_or_else(|| failed(&"it is in no scope"))?;
        let mut body = Writer::default();
        body.string(unit);
        body.string(&inside);
        body.array(4, |pids| pids.number(pid.unsigned_abs()));
        let call = self.message("AttachProcessesToUnit", "ssau", body.0);
        self.bus
            .call(&call)
            .map(drop)
            .map_err(|error| failed(&error))
    }

    fn run(&mut self, scope: &Scope) -> io::Result<()> {
        if !self.direct {
            let mut rule = Writer::default();
            rule.string(&format!(
                "type='signal',interface='{INTERFACE}',member='JobRemoved'"
            ));
            self.bus.call(&to_bus("AddMatch", "s", rule.0))?;
        }
        let body = scope.marshal(getpid().as_raw().unsigned_abs());
        let call = self.message("StartTransientUnit", "ssa(sv)a(sa(sv))", body);
        let serial = self.bus.send(&call)?;
        let (mut accepted, mut result) = (false, None);
        loop {
            let message = self.bus.receive()?;
            match message.kind {
                ERROR if message.reply_to == serial => {
                    return Err(io::Error::other(message.error_text()));
                }
                REPLY if message.reply_to == serial => accepted = true,
                SIGNAL if message.member == "JobRemoved" => {
                    result = removed_job(&message, &scope.unit).or(result);
                }
                _ => {}
            }
            match result.as_deref() {
                Some("done") if accepted => return Ok(()),
                Some(other) if accepted => {
                    return Err(io::Error::other(format!(
                        "the job for {} ended with {other:?}",
                        scope.unit
                    )));
                }
                _ => {}
            }
        }
    }

    fn message<'a>(&self, member: &'a str, signature: &'a str, body: Vec<u8>) -> Call<'a> {
        Call {
            destination: if self.direct { "" } else { SYSTEMD },
            path: "/org/freedesktop/systemd1",
            interface: INTERFACE,
            member,
            signature,
            body,
        }
    }
}

fn unanswered(error: &io::Error) -> Error {
    Error::Systemd(match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            "it did not answer in 30 seconds".into()
        }
        _ => error.to_string(),
    })
}

/// The innermost scope in a path, and what follows it, with a slash before it.
fn unit_of(directory: &Path) -> Option<(&str, String)> {
    let scope = directory
        .ancestors()
        .find(|path| path.extension().is_some_and(|end| end == "scope"))?;
    let inside = directory.strip_prefix(scope).ok()?.to_str()?;
    Some((scope.file_name()?.to_str()?, format!("/{inside}")))
}

fn to_bus<'a>(member: &'a str, signature: &'a str, body: Vec<u8>) -> Call<'a> {
    Call {
        destination: DBUS,
        path: "/org/freedesktop/DBus",
        interface: DBUS,
        member,
        signature,
        body,
    }
}

/// The result in a `JobRemoved` signal (id, job, unit, result), when it is about `unit`.
fn removed_job(message: &Message, unit: &str) -> Option<String> {
    if message.signature != "uoss" {
        return None;
    }
    let mut reader = Reader::new(&message.body);
    reader.number()?;
    reader.string()?;
    let about = reader.string()?;
    let result = reader.string()?;
    (about == unit).then_some(result)
}

impl Scope {
    fn marshal(&self, pid: u32) -> Vec<u8> {
        let mut body = Writer::default();
        body.string(&self.unit);
        body.string("fail");
        body.array(8, |properties| {
            let text = |properties: &mut Writer, name: &str, value: &str| {
                properties.align(8);
                properties.string(name);
                properties.signature("s");
                properties.string(value);
            };
            text(properties, "Description", "a palisade sandbox");
            // A scope whose last process was killed is not to stay as failed.
            text(properties, "CollectMode", "inactive-or-failed");
            if let Some(slice) = &self.slice {
                text(properties, "Slice", slice);
            }
            properties.align(8);
            properties.string("Delegate");
            properties.signature("b");
            properties.number(1);
            properties.align(8);
            properties.string("PIDs");
            properties.signature("au");
            properties.array(4, |pids| pids.number(pid));
        });
        body.array(8, |_| {});
        body.0
    }
}

/// Whether systemd has marked this cgroup as one that its unit may divide (`Delegate=yes`).
pub(super) fn is_delegated(directory: &Path) -> bool {
    [c"user.delegate", c"trusted.delegate"]
        .into_iter()
        .any(|name| crate::cgroup::xattr::is_one(directory, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job_removed(unit: &str, result: &str) -> Message {
        let mut body = Writer::default();
        body.number(9);
        body.string("/job/9");
        body.string(unit);
        body.string(result);
        Message {
            kind: SIGNAL,
            member: "JobRemoved".into(),
            signature: "uoss".into(),
            body: body.0,
            ..Message::default()
        }
    }

    #[test]
    fn the_end_of_another_units_job_is_not_ours() {
        assert_eq!(
            removed_job(&job_removed("a.scope", "done"), "a.scope").as_deref(),
            Some("done")
        );
        assert_eq!(
            removed_job(&job_removed("b.scope", "done"), "a.scope"),
            None
        );
    }

    #[test]
    fn a_cgroup_is_named_by_its_scope_and_what_is_below_it() {
        let inner = Path::new("/sys/fs/cgroup/user.slice/app.slice/x.scope/palisade-1");
        assert_eq!(unit_of(inner), Some(("x.scope", "/palisade-1".into())));
        assert_eq!(
            unit_of(Path::new("/sys/fs/cgroup/a.scope/b.scope")),
            Some(("b.scope", "/".into()))
        );
        assert_eq!(unit_of(Path::new("/sys/fs/cgroup/given/x")), None);
    }

    #[test]
    fn without_a_manager_the_error_says_where_it_was_sought_and_how_to_start_one() {
        let nowhere = Path::new("/does/not/exist");
        let Err(error) = connect(nowhere, nowhere) else {
            panic!("a service manager at a path that does not exist")
        };
        let text = error.to_string();
        assert!(
            text.contains("/does/not/exist") && text.contains("loginctl enable-linger"),
            "{text}"
        );
    }
}
