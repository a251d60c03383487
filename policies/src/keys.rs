//! Every key of a policy file: what it expects and an example. The reader, its errors and the JSON Schema's test use it.

/// One key.
pub struct Key {
    /// Full name: sections and key joined by dots.
    pub path: &'static str,
    /// What is expected, as it continues "expected …".
    pub expects: &'static str,
    /// A value as it is written in a file.
    pub example: &'static str,
}

impl Key {
    /// The last part of the name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// The section it is in; empty at the top.
    #[must_use]
    pub fn section(&self) -> &'static str {
        self.path
            .rsplit_once('.')
            .map_or("", |(section, _)| section)
    }
}

/// The key `path`.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

const SIZE: &str = "a size as \"512MiB\" or \"2g\", or a number of bytes";
const SIZE_OR_NOT: &str = "a size as \"512MiB\", a number of bytes, or \"unlimited\"";
const COUNT_OR_NOT: &str = "a whole number or \"unlimited\"";
const PATHS: &str = "a list of absolute paths (\"~\" stands for the home directory)";
const RLIMIT: &str = "a whole number, \"unlimited\", or { soft = …, hard = … }";

macro_rules! keys {
    ($($path:literal, $expects:expr, $example:expr;)+) => {
        /// Every key, section by section.
        pub const KEYS: &[Key] = &[$(Key { path: $path, expects: $expects, example: $example }),+];
    };
}

keys! {
    "name", "a name", "\"build\"";
    "description", "a sentence", "\"Builds without a network\"";
    "extends", "a built-in policy's name or the path of a policy file", "\"default\"";
    "capabilities", "a list of capability names", "[\"CAP_NET_BIND_SERVICE\"]";
    "timeout", "a duration as \"120s\" or \"2m\", or \"unlimited\"", "\"120s\"";
    "stop-timeout", "a duration as \"10s\"", "\"10s\"";
    "minimum-tier", "\"full\", \"no-cgroup\" or \"no-namespace\"", "\"full\"";
    "output-cap", SIZE_OR_NOT, "\"10MiB\"";
    "flags", "\"refine\" or \"tighten-only\"", "\"tighten-only\"";
    "filesystem", "a section", "{ root = \"read-only\" }";
    "network", "a section", "{ mode = \"none\" }";
    "syscalls", "a section", "{ base = \"default\" }";
    "limits", "a section", "{ pids = 256 }";
    "environment", "a section", "{ pass = [\"TERM\"] }";

    "filesystem.root", "\"read-only\", \"in-memory\" or \"writable\"", "\"read-only\"";
    "filesystem.read", PATHS, "[\"/\"]";
    "filesystem.write", PATHS, "[\"/tmp\", \"~\"]";
    "filesystem.write-existing", PATHS, "[\"/dev\", \"/proc\"]";
    "filesystem.exec", PATHS, "[\"/usr\", \"/bin\"]";
    "filesystem.deny", PATHS, "[\"~/.ssh\"]";
    "filesystem.tmpfs", "a list of { path, size, inodes, noexec }", "[{ path = \"/tmp\", size = \"512MiB\" }]";
    "filesystem.scratch-size", SIZE, "\"1GiB\"";
    "filesystem.scratch-inodes", COUNT_OR_NOT, "100000";
    "filesystem.setuid", "\"strip\" or \"keep\"", "\"strip\"";
    "filesystem.landlock-handles", "\"all\" or \"changes\"", "\"changes\"";
    "filesystem.sys", "\"none\" or \"read-only\"", "\"none\"";
    "filesystem.masked-paths", "a list of absolute paths", "[\"/proc/kcore\"]";
    "filesystem.readonly-paths", "a list of absolute paths", "[\"/proc/sys\"]";

    "filesystem.tmpfs.path", "an absolute path or \"~\"", "\"/tmp\"";
    "filesystem.tmpfs.size", SIZE, "\"512MiB\"";
    "filesystem.tmpfs.inodes", COUNT_OR_NOT, "100000";
    "filesystem.tmpfs.noexec", "true or false", "true";

    "network.mode", "\"none\" or \"host\"", "\"none\"";

    "syscalls.base", "\"strict\", \"default\" or \"compat\"", "\"default\"";
    "syscalls.allow", "a list of system call names", "[\"vmsplice\"]";
    "syscalls.deny", "a list of system call names or { name, errno }", "[\"ptrace\", { name = \"mknod\", errno = \"ENOSYS\" }]";
    "syscalls.deny.name", "a system call's name", "\"ptrace\"";
    "syscalls.deny.errno", "an errno's name or a number from 1 to 4095", "\"ENOSYS\"";

    "limits.memory", SIZE_OR_NOT, "\"512MiB\"";
    "limits.swap", SIZE_OR_NOT, "0";
    "limits.cpus", "a number of processors from 0.01 to 65536 as 1.5, or \"unlimited\"", "1.5";
    "limits.cpuset", "a list of processor numbers and ranges as \"0-3,6\", or \"unlimited\"", "\"0-3\"";
    "limits.pids", "a whole number from 1 to 4194304, or \"unlimited\"", "256";
    "limits.shm", SIZE, "\"64MiB\"";
    "limits.rlimits", "a section", "{ core = 0 }";
    "limits.io", "a list of { device, read-bps, write-bps, read-iops, write-iops }",
        "[{ device = \"/dev/sda\", write-bps = \"10MiB\" }]";

    "limits.rlimits.as", RLIMIT, "4294967296";
    "limits.rlimits.core", RLIMIT, "0";
    "limits.rlimits.cpu", RLIMIT, "600";
    "limits.rlimits.data", RLIMIT, "4294967296";
    "limits.rlimits.fsize", RLIMIT, "1073741824";
    "limits.rlimits.locks", RLIMIT, "1024";
    "limits.rlimits.memlock", RLIMIT, "65536";
    "limits.rlimits.msgqueue", RLIMIT, "819200";
    "limits.rlimits.nice", RLIMIT, "0";
    "limits.rlimits.nofile", RLIMIT, "{ soft = 1024, hard = 65536 }";
    "limits.rlimits.nproc", RLIMIT, "1024";
    "limits.rlimits.rss", RLIMIT, "\"unlimited\"";
    "limits.rlimits.rtprio", RLIMIT, "0";
    "limits.rlimits.rttime", RLIMIT, "\"unlimited\"";
    "limits.rlimits.sigpending", RLIMIT, "1024";
    "limits.rlimits.stack", RLIMIT, "8388608";

    "limits.io.device", "the path of a block device of the host", "\"/dev/sda\"";
    "limits.io.read-bps", SIZE_OR_NOT, "\"10MiB\"";
    "limits.io.write-bps", SIZE_OR_NOT, "\"10MiB\"";
    "limits.io.read-iops", COUNT_OR_NOT, "1000";
    "limits.io.write-iops", COUNT_OR_NOT, "1000";

    "environment.pass", "a list of variable names in which \"*\" stands for any characters", "[\"TERM\", \"LC_*\"]";
    "environment.set", "a section of variables and their values", "{ CI = \"1\" }";
}
