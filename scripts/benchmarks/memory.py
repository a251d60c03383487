"""Memory of what stays beside a sleeping sandbox: palisade and its init, bubblewrap, crun, runc, podman's monitor.

Usage: scripts/bench memory [--samples N] [-- PALISADE RUN OPTIONS]

Summed are the proportional set sizes (smaps_rollup) of all processes of the sandbox but its command's own. The peak is over
samples taken from the first moment on. Needs root, since a sandbox's init lets nobody else look.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from ground import Ground, leave_hybrid_cgroups, machine, table

SLEEP = ["/bin/sleep", "1002.5"]


def descendants(pid):
    """A process and all below it that still are."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                pass
    return found


def pss(pid):
    """KiB of a process; none for one that is gone or has no memory of its own."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return None


def is_command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[-2:-1] == [SLEEP[1].encode()] and \
            Path(f"/proc/{pid}/comm").read_text().strip() in ("sleep", "busybox")
    except OSError:
        return False


def observe(user, argv, samples):
    """(peak KiB, KiB at the end, processes at the end), of everything but the command."""
    child = subprocess.Popen(user.prefix + [str(a) for a in argv], env=user.env, cwd=user.home,
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    peak, last, processes, asleep = 0, 0, 0, 0
    deadline = time.monotonic() + 30
    while asleep < samples and time.monotonic() < deadline and child.poll() is None:
        all_of_it = descendants(child.pid)
        others = {p: size for p in all_of_it if not is_command(p) and (size := pss(p)) is not None}
        last, processes = sum(others.values()), len(others)
        peak = max(peak, last)
        if any(is_command(p) for p in all_of_it):
            asleep += 1
            time.sleep(0.02)
    command = [p for p in descendants(child.pid) if is_command(p)]
    for pid in command or [child.pid]:
        os.kill(pid, 9)
    _, words = child.communicate(timeout=30)
    if asleep < samples:
        raise RuntimeError((words.strip().splitlines() or ["the command never ran"])[-1])
    return peak, last, processes


def measure(ground, user, options):
    image = f"oci:{ground.image('busybox.oci')}:latest"
    bundle = user.home / "bundle"
    subprocess.run(["umoci", "unpack", "--rootless", "--image", f"{ground.image('busybox.oci')}:latest", bundle],
                   check=True, capture_output=True)
    (bundle / "config.json").unlink()
    subprocess.run(["runc", "spec"], cwd=bundle, check=True)
    edit = (bundle / "config.json").read_text().replace('"terminal": true', '"terminal": false').replace('"sh"', ", ".join(f'"{a}"' for a in SLEEP))
    (bundle / "config.json").write_text(edit)
    bundle.chmod(0o755)
    user.own(bundle)
    found = {
        "palisade": [ground.palisade, "run", "--rm", *options.palisade, image, *SLEEP],
        "bubblewrap": ["bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", bundle / "rootfs", "/", "--proc", "/proc",
                       "--dev", "/dev", *SLEEP],
    }
    if not user.uid:
        found |= {name: [name, "--root", user.run_dir / name, "run", "--bundle", bundle, "bench"] for name in ("crun", "runc")}
    rows = []
    for name, argv in found.items():
        try:
            # The first run unpacks the image, which is not what is measured.
            if name == "palisade" and (first := user.run([*argv[:-2], "true"])).returncode:
                raise RuntimeError((first.stderr.strip().splitlines() or [f"exit {first.returncode}"])[0])
            peak, last, processes = observe(user, argv, options.samples)
            rows.append([name, f"{peak / 1024:.2f}", f"{last / 1024:.2f}", str(processes)])
        except RuntimeError as error:
            rows.append([f"{name} does not run here: {error}", "–", "–", "–"])
    print(f"Sandbox of {user.title}:\n")
    table(["beside a sleeping command", "peak MiB PSS", "asleep MiB PSS", "processes"], rows)


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench memory", description="Memory beside a sleeping sandbox.")
    parser.add_argument("--samples", type=int, default=50, help="samples once the command sleeps (50)")
    parser.add_argument("palisade", nargs="*", metavar="OPTION", help="after --: options of `palisade run`")
    options = parser.parse_args()
    if os.geteuid():
        sys.exit("bench: memory of a sandbox's init is shown to root only\n  try: sudo scripts/bench memory")
    leave_hybrid_cgroups()
    print(f"{machine()}\n")
    with Ground() as ground:
        for user in ground.users:
            measure(ground, user, options)


main()
