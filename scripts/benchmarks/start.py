"""Time of `true` in a sandbox: bare, bubblewrap, crun, runc, podman and palisade, side by side.

Usage: scripts/bench start [--rounds N] [--runs N] [--no-podman] [-- PALISADE RUN OPTIONS]

Commands alternate in rounds, so that the machine's noise falls on all alike; figures are over the runs of all rounds.
"""

import argparse
import json
import shlex
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

from ground import Ground, first_line, leave_hybrid_cgroups, machine, table

BUBBLEWRAP = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]


def bundle(ground, user):
    """An OCI bundle with the busybox image and the runtime's own default specification."""
    path = user.home / "bundle"
    subprocess.run(["umoci", "unpack", "--rootless", "--image", f"{ground.image('busybox.oci')}:latest", path],
                   check=True, capture_output=True)
    (path / "config.json").unlink()
    subprocess.run(["runc", "spec", *(["--rootless"] if user.uid else [])], cwd=path, check=True)
    config = json.loads((path / "config.json").read_text())
    config["process"].update(terminal=False, args=["true"])
    for mappings in ("uidMappings", "gidMappings") if user.uid else ():
        config["linux"][mappings][0]["hostID"] = user.uid
    (path / "config.json").write_text(json.dumps(config))
    path.chmod(0o755)
    user.own(path)
    return path


def podman(ground, user):
    """podman with a store of its own, holding the busybox image."""
    command = ["podman", "--root", user.home / "podman", "--runroot", user.run_dir / "podman",
               "--storage-driver", "vfs" if user.uid else "overlay"]
    user.run([*command, "load", "-q", "-i", ground.image("busybox.docker-archive.tar")])
    return [*command, "run", "--rm", "--pull", "never", "--network", "none", "docker.io/library/busybox:latest", "true"]


def commands(ground, user, options):
    path = bundle(ground, user)
    rootfs = path / "rootfs"
    found = {
        "bare": [rootfs / "bin/busybox", "true"],
        "bubblewrap": [*BUBBLEWRAP, "--ro-bind", rootfs, "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
                       "--chdir", "/", "/bin/true"],
        "crun": ["crun", "--root", user.run_dir / "crun", "run", "--bundle", path, "bench"],
        "runc": ["runc", "--root", user.run_dir / "runc", "run", "--bundle", path, "bench"],
        "palisade": [ground.palisade, "run", "--rm", *options.palisade, f"oci:{ground.image('busybox.oci')}:latest", "true"],
    }
    if not options.no_podman:
        found["podman"] = podman(ground, user)
    return {name: [str(a) for a in argv] for name, argv in found.items()}


def usable(user, found):
    """The commands that work here, and for the others what they said."""
    refused = {}
    for name, argv in list(found.items()):
        done = user.run(argv) if shutil.which(argv[0]) else None
        if done is None or done.returncode:
            lines = done.stderr.strip().splitlines() if done else ["not installed"]
            refused[name] = lines[-1] if lines else f"exit {done.returncode}"
            del found[name]
    return refused


def times(user, found, rounds, runs):
    """Seconds of every run, per command, from hyperfine."""
    result = {name: [] for name in found}
    export = user.home / "hyperfine.json"
    order = list(found)
    for _ in range(rounds):
        for slow in (False, True):
            names = [name for name in order if (name == "podman") == slow]
            if names:
                user.checked(["hyperfine", "--shell=none", "--style=none", "--warmup", "2", "--runs", runs if not slow else max(2, runs // 10),
                              "--export-json", export, *(shlex.join(found[name]) for name in names)])
                for name, measured in zip(names, json.loads(export.read_text())["results"], strict=True):
                    result[name] += measured["times"]
        order = order[1:] + order[:1]
    return result


def until_gone(user, found, runs):
    """Median seconds until nothing is left of a command; bubblewrap ends before its sandbox does."""
    reader = Path(__file__).with_name("gone.py").read_text()
    fast = {name: argv for name, argv in found.items() if name != "podman"}
    done = user.checked([sys.executable, "-c", reader, runs], input=json.dumps(fast))
    return {name: statistics.median(seconds) for name, seconds in json.loads(done.stdout).items()}


def system_calls(user, argv):
    """All system calls of a run, its command's included."""
    done = user.run(["strace", "-f", "-c", "-o", user.home / "strace.txt", *argv])
    totals = [line.split() for line in (user.home / "strace.txt").read_text().splitlines() if line.endswith(" total")]
    return int(totals[0][3]) if totals and done.returncode == 0 else None


def ratio(of, to):
    return f"{of / to:.2f}" if of and to else "–"


def measure(ground, user, options):
    found = commands(ground, user, options)
    refused = usable(user, found)
    if "bare" in refused:
        sys.exit(f"bench: {refused['bare']}")
    medians, rows = {}, []
    measured = times(user, found, options.rounds, options.runs)
    for name, seconds in measured.items():
        medians[name] = statistics.median(seconds)
    gone = until_gone(user, found, options.rounds * options.runs)
    for name, seconds in measured.items():
        calls = system_calls(user, found[name])
        rows.append([name, f"{medians[name] * 1e3:.2f}", f"{min(seconds) * 1e3:.2f}", *(
            ratio(medians[name], medians.get(peer)) for peer in ("bubblewrap", "crun", "runc")),
            f"{gone[name] * 1e3:.2f}" if name in gone else "–", ratio(gone.get(name), gone.get("bubblewrap")),
            str(calls or "–"), str(len(seconds))])
    print(f"As {user.title}:\n")
    table(["`true` in a sandbox", "median ms", "least ms", "/ bubblewrap", "/ crun", "/ runc", "gone ms", "/ bubblewrap", "system calls", "runs"], rows)
    for name, words in refused.items():
        print(f"{name} does not run here: {words}\n")


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench start", description="Time of `true` in a sandbox, beside its peers.")
    parser.add_argument("--rounds", type=int, default=12, help="rounds in which the commands alternate (12)")
    parser.add_argument("--runs", type=int, default=20, help="runs of a command in a round (20; a tenth for podman)")
    parser.add_argument("--no-podman", action="store_true", help="leave podman out, which takes a hundred times as long")
    parser.add_argument("palisade", nargs="*", metavar="OPTION", help="after --: options of `palisade run`")
    options = parser.parse_args()
    leave_hybrid_cgroups()
    print(f"{machine()}\n")
    print(", ".join(filter(None, (first_line([p, "--version"]) for p in ("bwrap", "crun", "runc", "podman")))) + "\n")
    with Ground() as ground:
        for user in ground.users:
            measure(ground, user, options)


main()
