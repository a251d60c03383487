//! `palisade run`.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use oci_spec::runtime::BoxBuilder;
use palisade_policies::{Pins, Policy, RootMode, Tier};
use palisade_rootfs::volumes::InUse;
use palisade_rootfs::{Image, Name, Ownership, Reference, Store};
use palisade_runtime::{Root, Upper, terminal};
use palisade_shim::state::{Registry, Restart};
use palisade_shim::{Outcome, Reason, monitor, supervise};

use crate::caller::Caller;
use crate::cli::{self, render};
use crate::data::WritableLayer;
use crate::failure::{Failure, reason};
use crate::queue::{self, Slot};
use crate::receipt::asked;
use crate::registry::pull::{self, When};
use crate::request::{Mount, Request, Userns};
use crate::resolve::{self, Place, Resolved, Source, host::HostTree};
use crate::verb::{print, tell};
use crate::{create, data, diagnosis, dry_run, explain, policy, volume};

/// Runs a command in a new sandbox and returns its exit code.
pub fn main(args: impl Iterator<Item = OsString>) -> Result<u8, Failure> {
    let arguments = cli::run::parse("run", args)?;
    if arguments.help {
        print(
            &render::run_verb()
                .bin_name("palisade run")
                .render_help()
                .to_string(),
        )?;
        return Ok(0);
    }
    let ranges =
        arguments.userns.is_some() || arguments.user.is_some() || !arguments.group_add.is_empty();
    let caller = Caller::read(ranges)?;
    let request = Request::new(arguments, &caller)?;
    let start = SystemTime::now();
    let slot =
        take_slot(&request, &caller).map_err(|failure| recorded(&request, start, failure))?;
    let ready = prepare(&request, caller).map_err(|failure| recorded(&request, start, failure))?;
    if request.dry_run {
        return print(&dry_run::text(&ready.resolved)?).map(|()| 0);
    }
    if !request.quiet {
        tell("note", &ready.notes());
    }
    execute(&request, &ready, start, slot)
}

/// The slot of `--queue`, waited for.
fn take_slot(request: &Request, caller: &Caller) -> Result<Option<Slot>, Failure> {
    let Some(pool) = request.life.queue.as_deref().filter(|_| !request.dry_run) else {
        return Ok(None);
    };
    let data = data::directory(request.root.as_deref(), caller)?;
    let waiting = |what: String| {
        if !request.quiet {
            tell("note", &[what]);
        }
    };
    queue::take(&data, pool, caller, waiting).map(Some)
}

/// Everything that a run is made of.
pub struct Ready {
    /// The data directory.
    pub data: PathBuf,
    /// What is allowed.
    pub policy: Policy,
    /// What it runs on; none for `host`.
    pub image: Option<Image>,
    /// Whether the sandbox gets a record, by which other commands find it.
    pub recorded: bool,
    /// The plan.
    pub resolved: Resolved,
}

impl Ready {
    /// What the user is to know now. What is so of the image was said when it was unpacked.
    pub fn notes(&self) -> Vec<String> {
        let known = self.image.as_ref().filter(|image| !image.fresh);
        let notes = self.resolved.notes.iter();
        notes
            .filter(|note| !known.is_some_and(|image| image.notes.contains(note)))
            .cloned()
            .collect()
    }

    /// Makes the missing sources of `-v`, and takes the volumes: they cannot be removed as long as the result lives.
    pub fn make_sources(&self, quiet: bool) -> Result<Vec<InUse>, Failure> {
        for path in &self.resolved.create {
            std::fs::create_dir_all(path).map_err(|error| {
                Failure::new(
                    format!("cannot make {}: {}", path.display(), reason(&error)),
                    "-v with a directory that exists",
                )
            })?;
        }
        let volumes = volume::take(&self.resolved.volumes, self.image.as_ref())?;
        for used in volumes.iter().filter(|_| !quiet) {
            tell("note", &used.notes);
        }
        Ok(volumes)
    }

    /// Makes the volumes that lie in the sandbox's directory, which exists.
    pub fn make_volumes(&self, quiet: bool) -> Result<(), Failure> {
        let notes = volume::make(&self.resolved.volumes, self.image.as_ref())?;
        if !quiet {
            tell("note", &notes);
        }
        Ok(())
    }
}

/// From a request to a plan, with its image unpacked.
pub fn prepare(request: &Request, mut caller: Caller) -> Result<Ready, Failure> {
    let mut notes = Vec::new();
    let policy = effective_policy(request, &mut notes)?;
    caller.hard_limits = resolve::hard_limits(policy.limits.rlimits.keys());

    // Only whoever goes on without namespaces asks before the start whether they can be had.
    let refused = (policy.minimum_tier == Tier::NoNamespace)
        .then(diagnosis::refused_namespaces)
        .flatten();
    if let Some(refused) = &refused
        && !matches!(request.image, Reference::Host | Reference::Directory(_))
    {
        return Err(Failure::new(
            format!(
                "{}: tier no-namespace has no root of the sandbox's own to show an image on, and namespaces are refused: {refused}",
                request.image_name
            ),
            "host, dir:PATH with static programs, or palisade doctor for what would allow namespaces",
        ));
    }

    let data = data::directory(request.root.as_deref(), &caller)?;
    let image = find_image(request, &caller, &data)?;
    let tree = HostTree::read_if(image.is_none());
    let source = image.as_ref().map_or(Source::Host(&tree), Source::Image);
    // A dry run has no id of its own, so that its text is the same each time.
    let id = if request.dry_run {
        "0".repeat(64)
    } else {
        fresh_id()?
    };
    // What changes an image's files on disk stays without --rm, for other commands to find.
    let layer_stays =
        image.is_some() && policy.filesystem.root == RootMode::Writable && !request.remove;
    // Of one without namespaces nothing can outlast the run.
    let recorded = refused.is_none() && (request.has_record() || layer_stays);
    let directory = if recorded {
        Registry::new(&data).directory(&id)
    } else {
        data::sandbox(&data, &id)
    };
    let place = Place {
        id: &id,
        directory: &directory,
        data: &data,
        recorded,
    };
    let mut resolved = match &refused {
        None => resolve::resolve(request, &policy, source, &caller, place)?,
        Some(by) => resolve::shared::resolve(request, &policy, source, &caller, place, by)?,
    };
    if request.tty && !request.dry_run {
        size_terminal(&mut resolved);
    }
    notes.append(&mut resolved.notes);
    notes.extend(policy_within_reach(request));
    resolved.notes = notes;
    resolved.plan.joinable = recorded;
    Ok(Ready {
        data,
        policy,
        image,
        recorded,
        resolved,
    })
}

/// Gives the sandbox's terminal the size of the caller's before the command can ask for it.
fn size_terminal(resolved: &mut Resolved) {
    let Ok(size) = terminal::window_size(std::io::stdin()) else {
        return;
    };
    let size = BoxBuilder::default()
        .height(size.ws_row)
        .width(size.ws_col)
        .build();
    if let (Some(process), Ok(size)) = (resolved.plan.spec.process_mut().as_mut(), size) {
        process.set_console_size(Some(size));
    }
}

/// Writes the receipt, where one was asked for, of a run that failed before there was a sandbox.
fn recorded(request: &Request, start: SystemTime, failure: Failure) -> Failure {
    if let Err(error) = asked::of_failure(request, start, &failure) {
        tell("warning", &[error.to_string()]);
    }
    failure
}

/// The policy asked for, with the request's options and the administrator's pins in it.
fn effective_policy(request: &Request, notes: &mut Vec<String>) -> Result<Policy, Failure> {
    let pins = Pins::load(Path::new(Pins::DIRECTORY)).map_err(|error| {
        Failure::new(
            error.to_string(),
            format!("ask the administrator to correct {}", Pins::DIRECTORY),
        )
    })?;
    resolve::refine(&policy::named(&request.policy)?, request, &pins, notes)
}

/// What to know where the policy's file can be changed by the command that it is to hold.
fn policy_within_reach(request: &Request) -> Option<String> {
    let named = Path::new(&request.policy);
    if named.components().count() < 2 && named.extension().is_none() {
        return None;
    }
    let file = named.canonicalize().ok()?;
    let writable = request.mounts.iter().filter_map(|mount| match mount {
        Mount::Bind(bind) if !bind.read_only => Some(&bind.source),
        _ => None,
    });
    let source = writable
        .filter_map(|source| source.canonicalize().ok())
        .find(|source| file.starts_with(source))?;
    Some(format!(
        "the policy {} lies in {}, which the command may change, and with it what holds the next one: keep it elsewhere, or mount it read-only",
        request.policy,
        source.display()
    ))
}

/// The image, unpacked; none for `host`.
fn find_image(request: &Request, caller: &Caller, data: &Path) -> Result<Option<Image>, Failure> {
    if request.image == Reference::Host {
        return Ok(None);
    }
    // Only root may give files the owners that the image says, and only with ids that stand for them in the sandbox.
    let kept = caller.is_real_root() || (caller.is_root() && request.userns == Userns::Host);
    let ownership = if kept {
        Ownership::Kept
    } else {
        Ownership::Caller
    };
    let failed = |error: palisade_rootfs::Error| match error {
        palisade_rootfs::Error::NotInStore { name } => Failure::new(
            format!("image {name} is not on this machine"),
            format!("palisade pull {name}, or --pull missing"),
        ),
        error => Failure::new(error.to_string(), image_remedy(&error)),
    };
    let store = Store::open(data).map_err(failed)?;
    let fetched = |name: &Name| {
        let wanted = pull::Wanted {
            name,
            platform: &request.platform,
            ownership,
            when: request.pull,
            quiet: request.quiet,
        };
        pull::for_run(&store, caller, &wanted).map(Some)
    };
    if let Reference::Registry(name) = &request.image
        && matches!(request.pull, When::Always | When::Newer)
    {
        return fetched(name);
    }
    match store.resolve(&request.image, &request.platform, ownership) {
        Ok(image) => Ok(Some(image)),
        Err(error) => match (&error, &request.image) {
            (palisade_rootfs::Error::NotInStore { .. }, Reference::Registry(name))
                if request.pull == When::Missing =>
            {
                fetched(name)
            }
            _ => Err(failed(error)),
        },
    }
}

/// What to do about an image that cannot be had.
pub fn image_remedy(error: &palisade_rootfs::Error) -> &'static str {
    use palisade_rootfs::Error;
    match error {
        Error::Io { doing, .. } if doing.contains("store") => {
            "--root DIR with a directory of your own"
        }
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            "free space (palisade image prune), or --root DIR on another disk"
        }
        Error::Store { .. } => "--root DIR with a directory of your own",
        Error::Platform { .. } => "--platform with one that it is for",
        Error::Unsupported { .. } => "skopeo copy, which changes an image from one form to another",
        Error::DigestMismatch { .. }
        | Error::SizeMismatch { .. }
        | Error::Json { .. }
        | Error::Layer { .. }
        | Error::Limit { .. }
        | Error::Config { .. } => "fetch or build the image again; nothing of it was kept",
        Error::NoSuchImage { .. } => "a tag that it has, after a colon",
        _ => {
            "check the path and who may read it; palisade pull NAME fetches an image from a registry"
        }
    }
}

/// Does what the plan needs on the host, runs it, and undoes it.
fn execute(
    request: &Request,
    ready: &Ready,
    start: SystemTime,
    slot: Option<Slot>,
) -> Result<u8, Failure> {
    // The supervisor records what fails later.
    let recorded = |failure| recorded(request, start, failure);
    let resolved = &ready.resolved;
    let mut options = supervise::Options {
        digest_output: request.receipt.is_asked_for()
            && (request.receipt.output || resolved.plan.output_limit.is_some()),
        receipt: asked::of_run(request, &ready.policy, ready.image.as_ref(), resolved),
        // Until the run has ended; of a detached one in the monitor.
        hold: slot.map(Into::into),
        ..supervise::Options::default()
    };
    let cidfile =
        Cidfile::write(request.cidfile.as_deref(), &resolved.plan.id).map_err(recorded)?;
    if request.life.detach {
        let code = create::detach(request, ready, &options)?;
        cidfile.keep();
        return Ok(code);
    }
    if let Some(keys) = &request.life.detach_keys {
        let code = create::attach(request, ready, &options, keys)?;
        cidfile.keep();
        return Ok(code);
    }
    if request.life.restart != Restart::No && !request.quiet {
        let text = "--restart has no effect without -d: the command is run once";
        tell("note", &[text.to_owned()]);
    }
    if ready.recorded {
        let (known, lock) = create::register(request, ready).map_err(recorded)?;
        let registry = Registry::new(&ready.data);
        let result = monitor::attend(&registry, known, lock, &resolved.plan, &options);
        return finish(request, ready, cidfile, result);
    }
    let _volumes = ready.make_sources(request.quiet).map_err(recorded)?;
    // Its locks are held to the end of the run.
    let mut layer = match &resolved.plan.root {
        Root::Overlay {
            upper: Upper::Directory(directory),
            ..
        } => WritableLayer::make(directory).map_err(recorded)?,
        Root::Callers { scratch } => scratch_of(scratch).map_err(recorded)?,
        _ => match resolved.volumes.home() {
            Some(directory) => WritableLayer::make(directory).map_err(recorded)?,
            None => WritableLayer::default(),
        },
    };
    if let Err(failure) = ready.make_volumes(request.quiet) {
        drop(layer);
        // What cannot be removed now is the next command's.
        let _ = Registry::new(&ready.data).sweep_directories();
        return Err(recorded(failure));
    }
    options.remove.append(&mut layer.remove);
    let result = supervise::run(&resolved.plan, &options);
    finish(request, ready, cidfile, result)
}

/// Says what came of a run in the foreground.
fn finish(
    request: &Request,
    ready: &Ready,
    cidfile: Cidfile,
    result: Result<Outcome, palisade_shim::Error>,
) -> Result<u8, Failure> {
    match result {
        Ok(outcome) => {
            cidfile.keep();
            tell("warning", &outcome.missing);
            for problem in &outcome.problems {
                tell("warning", &[problem.to_string()]);
            }
            if !request.quiet {
                tell("note", &ending(&ready.policy, &outcome));
            }
            if request.explain {
                let denials = outcome.denials.as_ref();
                tell("denied", &explain::lines(request, &ready.policy, denials));
            }
            Ok(outcome.code)
        }
        Err(error) => {
            // The command was missing, but the sandbox was there.
            if matches!(error.exit_code(), 126 | 127) {
                cidfile.keep();
            }
            Err(diagnosis::failure(&error))
        }
    }
}

/// The directory that stands for /tmp, /run and the home directory where nothing can be mounted.
fn scratch_of(scratch: &Path) -> Result<WritableLayer, Failure> {
    let remedy = "--root DIR with a directory you may write to";
    let layer = WritableLayer::make(scratch.parent().unwrap_or(scratch))
        .map_err(|failure| Failure::new(failure.message(), remedy))?;
    for name in ["tmp", "run", "home"] {
        let path = scratch.join(name);
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| {
                Failure::new(
                    format!("cannot make {}: {}", path.display(), reason(&error)),
                    remedy,
                )
            })?;
    }
    Ok(layer)
}

/// Why the command ended, where its exit code does not say it.
fn ending(policy: &Policy, outcome: &Outcome) -> Vec<String> {
    let text = match outcome.reason {
        Reason::Timeout => {
            let limit = policy.timeout.map(palisade_policies::format_duration);
            let limit = limit.unwrap_or_default();
            format!("the time limit of {limit} ended the command")
        }
        Reason::Output => {
            let limit = policy.output_cap.map(palisade_policies::format_size);
            let limit = limit.unwrap_or_default();
            format!(
                "the output limit of {limit} ended the command; what it wrote beyond that is lost"
            )
        }
        Reason::OutOfMemory if outcome.code == 137 => {
            "the memory limit ended the command".to_owned()
        }
        Reason::OutOfMemory => {
            let kills = outcome.usage.oom_kills;
            format!("the command failed, and the memory limit had killed {kills} of its processes")
        }
        Reason::Pids => {
            let denied = outcome.usage.pids_denied;
            let limit = policy.limits.pids.unwrap_or_default();
            format!(
                "the command failed, and the limit of {limit} processes had refused it {denied}"
            )
        }
        Reason::Disk => {
            let full = outcome.full.join(", ");
            format!("the command failed, and there was no room left in {full}")
        }
        Reason::Exit | Reason::Signal => return Vec::new(),
    };
    vec![text]
}

/// The file of `--cidfile`, which goes again if no sandbox comes into being.
pub struct Cidfile(Option<PathBuf>);

impl Cidfile {
    /// Writes the id.
    pub fn write(path: Option<&Path>, id: &str) -> Result<Self, Failure> {
        let Some(path) = path else {
            return Ok(Self(None));
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .map_err(|error| {
                Failure::new(
                    format!(
                        "cannot write the id to {}: {}",
                        path.display(),
                        reason(&error)
                    ),
                    "--cidfile with a file that does not exist yet",
                )
            })?;
        let written = Self(Some(path.to_owned()));
        file.write_all(id.as_bytes()).map_err(|error| {
            Failure::new(
                format!(
                    "cannot write the id to {}: {}",
                    path.display(),
                    reason(&error)
                ),
                "",
            )
        })?;
        Ok(written)
    }

    /// The sandbox is there.
    pub fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Cidfile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // The error that is on its way out says more than this one would.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// 256 random bits in hexadecimal digits.
pub fn fresh_id() -> Result<String, Failure> {
    let mut bytes = [0_u8; 32];
    let got = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    if got != Ok(bytes.len()) {
        return Err(Failure::new(
            "the kernel gives no random bytes for the sandbox's id",
            "",
        ));
    }
    let mut id = String::with_capacity(64);
    for byte in bytes {
        let _ = write!(id, "{byte:02x}");
    }
    Ok(id)
}
