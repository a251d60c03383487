//! What is executed, and where.

use std::ffi::OsString;
use std::path::PathBuf;

use palisade_rootfs::ImageConfig;

use crate::failure::Failure;
use crate::request::{Request, sandbox_path};

/// The command's arguments, by docker's rules: arguments replace CMD, `--entrypoint` replaces ENTRYPOINT and CMD.
pub fn resolve(
    request: &Request,
    config: &ImageConfig,
    host: bool,
) -> Result<Vec<OsString>, Failure> {
    let words = |words: &[String]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let mut args = match &request.entrypoint {
        None => words(&config.entrypoint),
        Some(program) if program.is_empty() => Vec::new(),
        Some(program) => vec![program.into()],
    };
    if !request.command.is_empty() {
        args.extend_from_slice(&request.command);
    } else if request.entrypoint.is_none() {
        args.extend(words(&config.cmd));
    }
    if args.is_empty() && request.life.detach {
        // PID 1 alone keeps the sandbox, for `exec`.
        return Ok(args);
    }
    if args.is_empty() && host {
        args.push("/bin/sh".into());
    }
    if args.is_empty() {
        let image = &request.image_name;
        return Err(Failure::new(
            format!("no command: image {image} names none, and none follows it on the line"),
            format!("palisade run {image} /bin/sh"),
        ));
    }
    Ok(args)
}

/// `--workdir`, else the image's, else `/`.
pub fn working_directory(request: &Request, config: &ImageConfig) -> Result<PathBuf, Failure> {
    let (what, path) = match &request.workdir {
        Some(path) => ("--workdir", path.clone()),
        None if config.working_dir.is_empty() => return Ok("/".into()),
        None => (
            "the image's WorkingDir",
            sandbox_path("the image's WorkingDir", config.working_dir.as_ref())?,
        ),
    };
    // CVE-2024-21626: /proc/self/fd/N leads to wherever a descriptor points.
    if path.starts_with("/proc") {
        return Err(Failure::new(
            format!(
                "{what} {} lies in /proc, where a path may lead out of the sandbox",
                path.display()
            ),
            "--workdir /",
        ));
    }
    Ok(path)
}
