"""What the seccomp program costs each system call: bare, under the smallest filter that looks at an argument, inside palisade.

Usage: scripts/bench calls [--rounds N]

Nanoseconds a call, the least of all rounds, in which the systems alternate. getppid, fcntl and prctl are served whatever their
arguments, which the kernel answers from a bitmap; for the others the program runs. The difference between the smallest filter and none
is the kernel's own: entering a filtered process, copying the arguments, calling any program at all.
"""

import argparse
import re
import subprocess
from pathlib import Path

from ground import Ground, machine, table

POLICIES = ["default", "strict", "compat"]


def least(user, commands, rounds):
    """The least nanoseconds of each call in each system."""
    found = {name: {} for name in commands}
    for _ in range(rounds):
        for name, argv in commands.items():
            for line in user.checked(argv).stdout.splitlines():
                call, nanoseconds = line.split("\t")
                found[name][call] = min(float(nanoseconds), found[name].get(call, 1e9))
    return found


def instructions(argv):
    """How long the program is that the command loads."""
    done = subprocess.run(["strace", "-f", "-e", "trace=seccomp", *argv], capture_output=True, text=True, check=True)
    return re.findall(r"SECCOMP_SET_MODE_FILTER, [^,]*, \{len=(\d+)", done.stderr)[-1]


def measure(ground, user, options):
    root = user.home / "root"
    for inner in "bin dev proc tmp".split():
        (root / inner).mkdir(parents=True)
    program = root / "bin/calls"
    subprocess.run(["cc", "-D_GNU_SOURCE", "-O2", "-static", "-o", program, Path(__file__).parent / "calls.c"], check=True)
    user.own(root)
    inside = {f"palisade {policy}": [ground.palisade, "run", "--rm", "--quiet", "--policy", policy, f"dir:{root}", "/bin/calls", "50"]
              for policy in POLICIES}
    commands = {"bare": [program, "50"], "smallest filter": [program, "floor", program, "50"], **inside}
    found = least(user, commands, options.rounds)
    print(f"As {user.title}, ns a call, and what comes to it:\n")
    table(["", "bare", *(name for name in commands if name != "bare")],
          [[call, f"{bare:.0f}", *(f"+{found[name][call] - bare:.0f}" for name in commands if name != "bare")] for call, bare in found["bare"].items()])
    if user.title == "root":
        lengths = [f"{policy} {instructions([*inside[f'palisade {policy}'][:-1], '1'])}" for policy in POLICIES]
        print(f"Instructions of the program: {', '.join(lengths)}.\n")


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench calls", description="What the seccomp program costs each system call.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds in which the systems alternate (5)")
    options = parser.parse_args()
    print(f"{machine()}\n")
    with Ground() as ground:
        for user in ground.users:
            measure(ground, user, options)


main()
