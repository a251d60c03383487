"""How long commands take until nothing is left of them, the processes that they leave to the system included.

Usage: gone.py RUNS, a JSON object of names and command lines on standard input; prints the seconds of every run, per name.
"""

import ctypes
import json
import os
import sys
import time

PR_SET_CHILD_SUBREAPER = 36


def gone(argv, quiet):
    begin = time.perf_counter()
    os.posix_spawnp(argv[0], argv, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, quiet, n) for n in range(3)])
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return time.perf_counter() - begin


def main():
    runs, commands = int(sys.argv[1]), json.load(sys.stdin)
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        sys.exit("gone: the kernel gives this process no orphans")
    quiet = os.open("/dev/null", os.O_RDWR)
    measured = {name: [] for name in commands}
    for run in range(runs + 1):
        for name, argv in commands.items():
            seconds = gone(argv, quiet)
            if run:
                measured[name].append(seconds)
    json.dump(measured, sys.stdout)


main()
