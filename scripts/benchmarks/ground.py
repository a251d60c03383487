"""What a measurement stands on: the users it is taken as, a work directory, the machine's description, the palisade command."""

import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

HYBRID = Path("/sys/fs/cgroup/unified")


class User:
    """Whom a command runs as: `prefix` goes before its arguments, `env` is all of its environment."""

    def __init__(self, uid, work):
        self.uid = uid
        self.title = "root" if uid == 0 else f"ordinary user (uid {uid})"
        other = uid != os.geteuid()
        self.prefix = ["setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups"] if other else []
        self.home = work / f"uid-{uid}"
        self.run_dir = self.home / "run"
        self.env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "LANG": "C.UTF-8",
            "HOME": str(self.home),
            "TMPDIR": str(self.home),
            "XDG_RUNTIME_DIR": str(self.run_dir),
            "XDG_DATA_HOME": str(self.home / "data"),
            "PALISADE_ROOT": str(self.home / "palisade"),
            "CONTAINERS_CONF": str(work / "containers.conf"),
        }
        self.run_dir.mkdir(parents=True)
        self.run_dir.chmod(0o700)
        self.own(self.home)

    def own(self, path):
        """Gives a tree to this user."""
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", f"{self.uid}:{self.uid}", str(path)], check=True)

    def run(self, argv, **options):
        """Runs a command as this user; its output is captured."""
        if "input" not in options:
            options["stdin"] = subprocess.DEVNULL
        return subprocess.run(
            self.prefix + [str(a) for a in argv], env=self.env, cwd=self.home, capture_output=True, text=True, errors="replace", **options)

    def checked(self, argv, **options):
        done = self.run(argv, **options)
        if done.returncode:
            sys.exit(f"bench: {' '.join(map(str, argv))}: exit {done.returncode}\n{done.stderr}")
        return done


class Ground:
    """A work directory that every user may enter, removed at the end, and the images and the binary readable from it."""

    def __init__(self, where=None):
        self.work = Path(tempfile.mkdtemp(prefix="palisade-bench.", dir=where))
        self.work.chmod(0o755)
        self.images = Path(os.environ["PALISADE_TEST_IMAGES"]).resolve()
        (self.work / "containers.conf").write_text(
            '[containers]\ndefault_ulimits = []\ncgroups = "disabled"\n'
            '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "none"\n')
        self.palisade = self.work / "palisade"
        shutil.copy(os.environ["PALISADE_BIN"], self.palisade)
        self.palisade.chmod(0o755)
        uids = [0, 1000] if os.geteuid() == 0 else [os.geteuid()]
        self.users = [User(uid, self.work) for uid in uids]
        if any(user.run(["test", "-r", self.images / "agent.oci/index.json"]).returncode for user in self.users):
            copy = self.work / "images"
            if subprocess.run(["cp", "-rl", self.images, copy], stderr=subprocess.DEVNULL).returncode:
                shutil.rmtree(copy, ignore_errors=True)
                subprocess.run(["cp", "-r", self.images, copy], check=True)
            self.images = copy

    def __enter__(self):
        # A bench that is told to stop also cleans up.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        return self

    def __exit__(self, *_):
        for pause in self.work.glob("uid-*/run/libpod/tmp/pause.pid"):
            # podman keeps a process per ordinary user to hold its namespaces.
            os.kill(int(pause.read_text()), 9)
        mounts = [line.split()[4] for line in open("/proc/self/mountinfo")]
        for mount in reversed([m for m in mounts if m.startswith(f"{self.work}/")]):
            subprocess.run(["umount", "--lazy", mount], check=True)
        shutil.rmtree(self.work, ignore_errors=True)
        if self.work.exists() and os.geteuid():
            # Files of a subordinate id are only removed inside the namespace that has it.
            subprocess.run(["podman", "unshare", "rm", "-rf", str(self.work)], stderr=subprocess.DEVNULL)

    def image(self, name):
        return self.images / name


def leave_hybrid_cgroups():
    """crun 1.8 refuses a machine with both cgroup versions: run everything where the second one is not mounted.

    All that is measured runs in the same place, so that the comparison stays fair.
    """
    if os.geteuid() or not os.path.ismount(HYBRID) or os.environ.get("BENCH_WITHOUT_UNIFIED"):
        return
    os.environ["BENCH_WITHOUT_UNIFIED"] = "1"
    os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'umount {HYBRID} && exec "$@"', "sh",
                          sys.executable, *sys.argv])


def machine():
    """One line about the machine, without its name."""
    model = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    virtual = subprocess.run(["grep", "-qw", "hypervisor", "/proc/cpuinfo"]).returncode == 0
    cgroups = "v2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "hybrid" if HYBRID.exists() else "v1"
    return (f"{os.cpu_count()} CPUs ({model}{', virtual' if virtual else ''}), {memory:.0f} GiB, "
            f"Linux {platform.release()}, cgroup {cgroups}")


def first_line(argv):
    """The first line a program prints, for version tables; empty when it is not installed."""
    try:
        return subprocess.run(argv, capture_output=True, text=True).stdout.splitlines()[0]
    except (OSError, IndexError):
        return ""


def table(header, rows):
    """Prints a markdown table; the first column is text, the others are numbers."""
    print("| " + " | ".join(header) + " |")
    print("|---" + "|---:" * (len(header) - 1) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print(flush=True)
