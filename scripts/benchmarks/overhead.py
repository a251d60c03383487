"""File-heavy work inside palisade, in a mounted workspace, against the same programs on the same files outside.

Usage: scripts/bench overhead [--rounds N] [--workspace DIR] [-- PALISADE RUN OPTIONS]

Inside runs on the image `host`, so the programs are the same files. The clock is the workload's own: it runs from its first
to its last step, so the start of the sandbox is not in it. Inside and outside alternate in rounds. The workspace lies on a
tmpfs unless said otherwise: what a disk's file system adds is the same on both sides, but differs tenfold from run to run.
"""

import argparse
import re
import statistics
import sys

from ground import Ground, machine, table

# Each is a shell function; set-up is not timed. $1 is an empty directory in the workspace.
WORKLOADS = {
    "git checkout and status": """
setup() {
    git init -q "$1/repository" && cd "$1/repository" && git config user.name bench && git config user.email bench@example.com
    for d in $(seq 40); do mkdir d$d; for f in $(seq 50); do echo "first $d $f" >d$d/f$f; done; done
    git add . && git commit -qm first
    for d in $(seq 40); do for f in $(seq 50); do echo "second $d $f" >d$d/f$f; done; done
    git commit -qam second
}
work() {
    cd "$1/repository" || exit
    for i in 1 2 3; do git checkout -q HEAD~1; git status --porcelain; git checkout -q -; git status --porcelain; done
}
""",
    "create, read, delete 20000 files": """
setup() { :; }
work() {
    /usr/bin/python3 -IS - "$1" <<'END'
import os, sys
os.chdir(sys.argv[1])
for d in range(100):
    os.mkdir(f"d{d}")
    for f in range(200):
        with open(f"d{d}/f{f}", "w") as out:
            out.write("some bytes\\n" * 40)
for parent, _, names in os.walk("."):
    for name in names:
        with open(os.path.join(parent, name)) as text:
            text.read()
        os.stat(os.path.join(parent, name))
for d in range(100):
    for f in range(200):
        os.unlink(f"d{d}/f{f}")
    os.rmdir(f"d{d}")
END
}
""",
    "find and grep in a tree": """
setup() { cp -r /usr/lib/python3/. "$1/tree"; cp -r /usr/share/perl "$1/perl" 2>/dev/null; :; }
work() { for i in 1 2 3 4 5; do find "$1" -type f -newer / -print; grep -rFl 'no such words' "$1"; done; :; }
""",
    "python compileall": """
setup() { mkdir "$1/lib" && find /usr/lib/python3.*/ -maxdepth 1 -type f -name "*.py" -exec cp -t "$1/lib" {} +; }
work() { /usr/bin/python3 -ISm compileall -qf "$1/lib" >/dev/null; :; }
""",
}

RUNNER = """
set -u
export PATH=/usr/bin:/bin LANG=C.UTF-8
directory=$1/work
rm -rf "$directory" && mkdir "$directory" || exit 1
(setup "$directory") >/dev/null || exit 1
times
start=$(date +%s%N)
(work "$directory") >/dev/null || exit 1
end=$(date +%s%N)
times
rm -rf "$directory"
echo $((end - start))
"""


def seconds(user, argv):
    """(wall, CPU) seconds, as the workload itself measured them."""
    lines = user.checked(argv).stdout.splitlines()

    def of_children(line):
        return sum(int(m) * 60 + float(s) for m, s in re.findall(r"(\d+)m([\d.]+)s", line))

    return int(lines[-1]) / 1e9, of_children(lines[-2]) - of_children(lines[-4])


def measure(ground, user, options):
    workspace = user.home / "workspace"
    workspace.mkdir()
    user.own(workspace)
    rows = []
    for name, script in WORKLOADS.items():
        script += RUNNER
        sandbox = [ground.palisade, "run", "--rm", "--tmpfs", "/tmp", "-v", f"{workspace}:/workspace", *options.palisade,
                   "host", "/bin/sh", "-c", script, "sh", "/workspace"]
        direct = ["env", "-i", "/bin/sh", "-c", script, "sh", workspace]
        inside, outside = [], []
        seconds(user, direct)
        for turn in range(options.rounds):
            for into, argv in ((inside, sandbox), (outside, direct))[::1 if turn % 2 else -1]:
                into.append(seconds(user, argv))
        row = [name]
        for clock in (0, 1):
            out, within = ([run[clock] for run in runs] for runs in (outside, inside))
            row += [f"{statistics.median(out):.3f}", f"{statistics.median(within) / statistics.median(out):.3f}",
                    f"{min(within) / min(out):.3f}"]
        rows.append(row)
    print(f"As {user.title}:\n")
    table(["workload", "outside, wall s", "inside / outside", "of the least", "outside, CPU s", "inside / outside", "of the least"], rows)


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench overhead", description="File-heavy work inside and outside.")
    parser.add_argument("--rounds", type=int, default=15, help="rounds in which inside and outside alternate (15)")
    parser.add_argument("--workspace", default="/dev/shm", metavar="DIR", help="where the workspace lies (/dev/shm)")
    parser.add_argument("palisade", nargs="*", metavar="OPTION", help="after --: options of `palisade run`")
    options = parser.parse_args()
    print(f"{machine()}\n")
    with Ground(options.workspace) as ground:
        for user in ground.users:
            measure(ground, user, options)
    sys.stdout.flush()


main()
