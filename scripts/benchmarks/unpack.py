"""Import and unpacking of the agent image into an empty place: palisade beside umoci, skopeo, tar and the machine's floor.

Usage: scripts/bench unpack [--rounds N] [--disk DIR] [--memory DIR] [--zstd]

The floor is inflating, hashing and creating the files, each measured alone in one thread; its wall time is their sum over the
number of CPUs. Commands alternate in rounds; CPU seconds are user and system time of a command and all its descendants.
"""

import argparse
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import time

from floor import cheapest, fresh, layers, parts_of, unpacked
from ground import Ground, first_line, leave_hybrid_cgroups, machine, table


def timed(user, argv):
    """Wall and CPU seconds of a command; what went wrong is raised."""
    log = user.home / "output"
    with open(log, "wb") as output:
        start = time.monotonic()
        child = subprocess.Popen(user.prefix + [str(a) for a in argv], env=user.env, cwd=user.home,
                                 stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.monotonic() - start
        # What Popen would wait for is already reaped.
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        lines = log.read_text(errors="replace").strip().splitlines()
        raise RuntimeError(lines[-1] if lines else f"exit {child.returncode}")
    return wall, usage.ru_utime + usage.ru_stime


def commands(ground, user, layout, place):
    blobs = layers(layout)
    image = f"oci:{layout}:latest"
    tar = f"for layer in {shlex.join(map(str, blobs))}; do tar -x{'' if layout.name.endswith('zstd') else 'z'}f $layer -C {place}; done"
    user.env["PALISADE_ROOT"] = str(place)
    found = {
        "palisade": [ground.palisade, "run", "--rm", "--entrypoint", "/bin/true", image],
        "umoci": ["umoci", "unpack", *(["--rootless"] if user.uid else []), "--image", image[4:], place / "bundle"],
        "skopeo": ["skopeo", "--insecure-policy", "copy", "--quiet", image, f"dir:{place}/copy"],
        "tar": ["sh", "-c", tar],
    }
    if layout.name.endswith("zstd"):
        # umoci 0.4 does not know zstd.
        del found["umoci"]
    return found


def measure(ground, user, layout, place, rounds, memory):
    tree = unpacked(ground, user)
    taken, refused, parts = {}, {}, {}
    for _ in range(rounds):
        for name, seconds in parts_of(ground, user, layout, tree, place, memory).items():
            parts.setdefault(name, []).append(seconds)
        for name, argv in commands(ground, user, layout, place).items():
            if name in refused:
                continue
            fresh(user, place, memory)
            try:
                taken.setdefault(name, []).append(timed(user, argv))
            except (RuntimeError, OSError) as error:
                refused[name] = str(error)
                taken.pop(name, None)
    if memory:
        shutil.rmtree(place)

    def row(name, runs, floor_wall, floor_cpu):
        wall, cpu = [r[0] for r in runs], [r[1] for r in runs]
        return [name, f"{statistics.median(wall):.2f}", f"{min(wall):.2f}", f"{statistics.median(cpu):.2f}", f"{min(cpu):.2f}",
                f"{min(wall) / floor_wall:.2f}", f"{min(cpu) / floor_cpu:.2f}",
                *(f"{min(r[i] for r in taken['umoci']) / min(r[i] for r in runs):.1f}" if "umoci" in taken else "–" for i in (0, 1))]

    cpus = os.cpu_count()
    whole, least = cheapest(parts)
    table(["agent image", "wall s", "least", "CPU s", "least", "wall / floor", "CPU / floor", "umoci wall / it", "umoci CPU / it"],
          [row(name, runs, *least) for name, runs in {**taken, f"floor on {cpus} CPUs": whole, **parts}.items()])
    for name, words in refused.items():
        print(f"{name} does not run here: {words}\n")


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench unpack", description="Import and unpacking of the agent image, beside its peers.")
    parser.add_argument("--rounds", type=int, default=3, help="rounds in which the commands alternate (3)")
    parser.add_argument("--disk", default="/var/tmp", help="a directory on a disk (/var/tmp)")
    parser.add_argument("--memory", default="/dev/shm", help="a directory on a tmpfs (/dev/shm)")
    parser.add_argument("--zstd", action="store_true", help="also the image with zstd layers")
    options = parser.parse_args()
    leave_hybrid_cgroups()
    print(f"{machine()}\n")
    print(", ".join(filter(None, (first_line([p, "--version"]) for p in ("umoci", "skopeo", "tar")))) + "\n")
    for title, where, memory in (("on disk", options.disk, False), ("on a tmpfs", options.memory, True)):
        with Ground(where) as ground:
            for user in ground.users:
                for layout in ("agent.oci", "agent.oci-zstd") if options.zstd else ("agent.oci",):
                    print(f"As {user.title}, {title}, {'zstd' if layout.endswith('zstd') else 'gzip'} layers:\n")
                    measure(ground, user, ground.image(layout), user.home / "place", options.rounds, memory)
    sys.stdout.flush()


main()
