"""Sandboxes that live on: exec, a whole life, the monitor's memory, hundreds at once, logs; beside crun, runc, podman, containerd.

Usage: scripts/bench lifecycle [--only PART]... [--rounds N] [--runs N] [--alive N] [--gigabytes N]

exec    `true` in a running sandbox; commands alternate in rounds, so that the machine's noise falls on all alike.
life    create, start, exec, stop and rm of a detached sandbox whose command ends at SIGTERM.
memory  proportional set size (smaps_rollup) of what watches a sandbox, two seconds after its start; only root may look.
many    starts of N sandboxes that stay. The last starts over the first ones, and, in turns, starts beside N others over starts
        in an empty data directory; then `ps` and finding one by name.
logs    what a command writes through a pipe into a log on a tmpfs, counted and hashed when it is read back.
"""

import argparse
import hashlib
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path

from ground import Ground, first_line, leave_hybrid_cgroups, machine, table

PARTS = ("exec", "life", "memory", "many", "logs")
STAY = ["sleep", "1003.5"]
# Ends at once when it is asked to, also as a PID 1, which SIGTERM alone would not end.
OBEY = ["sh", "-c", "trap exit TERM; sleep 1003.5 & wait"]


class Bench:
    """One user's peers: a bundle, a podman with a store of its own, palisade with a data directory in memory."""

    def __init__(self, ground, user, options):
        self.ground, self.user, self.options = ground, user, options
        self.image = f"oci:{ground.image('busybox.oci')}:latest"
        self.root = user.run_dir / "stay"
        self.podman = ["podman", "--root", user.home / "podman", "--runroot", user.run_dir / "podman",
                       "--storage-driver", "vfs" if user.uid else "overlay"]
        user.checked(self.palisade("run", "--rm", self.image, "true"))
        self.has_podman = not user.run([*self.podman, "load", "-q", "-i", ground.image("busybox.docker-archive.tar")]).returncode
        self.bundle = self.make_bundle()

    def palisade(self, *words, root=None):
        return [self.ground.palisade, words[0], *(["--root", root] if root else []), *words[1:]]

    def make_bundle(self):
        user, path = self.user, self.user.home / "bundle"
        subprocess.run(["umoci", "unpack", "--rootless", "--image", f"{self.ground.image('busybox.oci')}:latest", path],
                       check=True, capture_output=True)
        (path / "config.json").unlink()
        subprocess.run(["runc", "spec", *(["--rootless"] if user.uid else [])], cwd=path, check=True)
        config = json.loads((path / "config.json").read_text())
        config["process"].update(terminal=False, args=STAY)
        for mappings in ("uidMappings", "gidMappings") if user.uid else ():
            config["linux"][mappings][0]["hostID"] = user.uid
        (path / "config.json").write_text(json.dumps(config))
        path.chmod(0o755)
        user.own(path)
        return path

    def quietly(self, argv):
        """Runs what leaves a process behind that would hold a captured pipe open: no output but what a file takes."""
        said = self.user.home / "said"
        with open(said, "w") as file:
            code = subprocess.run(self.user.prefix + [str(a) for a in argv], env=self.user.env, cwd=self.user.home,
                                  stdin=subprocess.DEVNULL, stdout=file, stderr=file, timeout=120).returncode
        return code, said.read_text().strip()

    def times(self, commands, rounds, runs):
        """Seconds of every run, per command, from hyperfine, which alternates the commands in rounds."""
        found, export, order = {name: [] for name in commands}, self.user.home / "hyperfine.json", list(commands)
        for _ in range(rounds):
            self.user.checked(["hyperfine", "--shell=none", "--style=none", "--warmup", "1", "--runs", runs, "--export-json", export,
                               *(shlex.join(map(str, commands[name])) for name in order)])
            for name, measured in zip(order, json.loads(export.read_text())["results"], strict=True):
                found[name] += measured["times"]
            order = order[1:] + order[:1]
        return found

    def joining(self):
        """`exec` of true in a running sandbox of each that runs here, what ends them, and what the others said."""
        found, ends, refused = {}, [], {}
        user, podman_run = self.user, [*self.podman, "run", "-d", "--pull", "never", "--network", "none", "--name", "joined"]
        peers = {
            "palisade": (self.palisade("run", "-d", "--name", "joined", self.image, *STAY),
                         self.palisade("exec", "joined", "true"), self.palisade("rm", "-f", "joined")),
            "podman": ([*podman_run, "docker.io/library/busybox:latest", *STAY],
                       [*self.podman, "exec", "joined", "true"], [*self.podman, "rm", "-f", "-t", "0", "joined"]),
        }
        for name in ("crun", "runc"):
            own = [name, "--root", user.run_dir / name]
            peers[name] = ([*own, "run", "--detach", "--bundle", self.bundle, "joined"],
                           [*own, "exec", "joined", "true"], [*own, "delete", "--force", "joined"])
        for name, (begin, join, end) in peers.items():
            code, said = self.quietly(begin)
            if not code:
                ends.append(end)
                done = user.run(join)
                code, said = done.returncode, done.stderr.strip()
            if code:
                refused[name] = (said.splitlines() or [f"exit {code}"])[-1]
            else:
                found[name] = join
        return found, ends, refused

    def join(self):
        found, ends, refused = self.joining()
        try:
            slow = {name: argv for name, argv in found.items() if name == "podman"}
            quick = {name: argv for name, argv in found.items() if name != "podman"}
            seconds = self.times(quick, self.options.rounds, self.options.runs)
            if slow:
                seconds |= self.times(slow, max(2, self.options.rounds // 4), max(3, self.options.runs // 4))
        finally:
            for end in ends:
                self.user.run(end)
        medians = {name: statistics.median(times) for name, times in seconds.items()}
        rows = [[name, f"{medians[name] * 1e3:.2f}", f"{min(times) * 1e3:.2f}",
                 *(ratio(medians[name], medians.get(peer)) for peer in ("crun", "runc", "podman")),
                 ratio(min(times), min(seconds.get("crun", [0]))), str(len(times))] for name, times in seconds.items()]
        table(["`exec` of `true`", "median ms", "least ms", "/ crun", "/ runc", "/ podman", "least / crun's", "runs"], rows)
        for name, words in refused.items():
            print(f"{name} does not run here: {words}\n")

    def life(self):
        """A whole life as one script, timed by hyperfine."""
        def script(name, *steps):
            path = self.user.home / f"life-{name}"
            path.write_text("#!/bin/sh -e\n" + "".join(f"{shlex.join(map(str, step))} > /dev/null\n" for step in steps))
            path.chmod(0o755)
            self.user.own(path)
            return [path]
        commands = {"palisade": script(
            "palisade", self.palisade("create", "--name", "whole", self.image, *OBEY), self.palisade("start", "whole"),
            self.palisade("exec", "whole", "true"), self.palisade("stop", "whole"), self.palisade("rm", "whole"))}
        if self.has_podman:
            podman = self.podman
            commands["podman"] = script(
                "podman", [*podman, "create", "--pull", "never", "--network", "none", "--name", "whole", "docker.io/library/busybox:latest", *OBEY],
                [*podman, "start", "whole"], [*podman, "exec", "whole", "true"], [*podman, "stop", "whole"], [*podman, "rm", "whole"])
            if (tried := self.quietly(commands["podman"]))[0]:
                print(f"podman does not run here: {tried[1].splitlines()[-1:]}\n")
                del commands["podman"]
        seconds = {}
        for _ in range(3):
            for name, command in commands.items():
                runs = self.options.runs if name == "palisade" else 3
                seconds.setdefault(name, []).extend(self.times({name: command}, 1, runs)[name])
        medians = {name: statistics.median(times) for name, times in seconds.items()}
        table(["create, start, exec, stop, rm", "median ms", "least ms", "/ podman", "runs"], [
            [name, f"{medians[name] * 1e3:.1f}", f"{min(times) * 1e3:.1f}", ratio(medians[name], medians.get("podman"), 3), str(len(times))]
            for name, times in seconds.items()])

    def memory(self):
        if os.geteuid():
            return
        rows = []
        self.quietly(self.palisade("run", "-d", "--name", "weighed", self.image, *STAY))
        whole = self.user.checked(self.palisade("ps", "-q", "--no-trunc", "--filter", "name=^weighed$")).stdout.strip()
        state = json.loads(Path(self.user.env["PALISADE_ROOT"], "sandboxes", whole, "state.json").read_text())
        time.sleep(2)
        rows.append(["palisade's monitor", f"{pss(state['monitor']):.2f}"])
        rows.append(["palisade's PID 1", f"{pss(state['pid']):.2f}"])
        self.user.run(self.palisade("rm", "-f", "weighed"))
        pidfile = self.user.home / "conmon.pid"
        code, said = self.quietly([*self.podman, "run", "-d", "--pull", "never", "--network", "none", "--name", "weighed",
                                   "--conmon-pidfile", pidfile, "docker.io/library/busybox:latest", *STAY])
        if code:
            print(f"conmon does not run here: {said.splitlines()[-1:]}\n")
        else:
            time.sleep(2)
            rows.append(["conmon", f"{pss(int(pidfile.read_text())):.2f}"])
            self.user.run([*self.podman, "rm", "-f", "-t", "0", "weighed"])
        if not self.user.uid and (weight := self.weigh_shim()):
            rows.append(["containerd-shim-runc-v2", f"{weight:.2f}"])
        table(["beside a sleeping sandbox", "MiB PSS"], rows)

    def weigh_shim(self):
        """containerd with everything of its own, and one container in it."""
        place = self.user.home / "containerd"
        place.mkdir()
        (place / "config.toml").write_text(
            f'version = 2\nroot = "{place}/root"\nstate = "{place}/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\naddress = "{place}/socket"\n')
        with open(place / "log", "w") as log:
            daemon = subprocess.Popen(["containerd", "--config", place / "config.toml"], stdout=log, stderr=log)
        ctr = ["ctr", "--address", place / "socket"]
        try:
            give_up = time.monotonic() + 20
            while self.user.run([*ctr, "version"]).returncode and time.monotonic() < give_up:
                time.sleep(0.2)
            image = self.ground.image("busybox.docker-archive.tar")
            self.quietly([*ctr, "image", "import", "--snapshotter", "native", image])
            code, said = self.quietly([*ctr, "run", "-d", "--snapshotter", "native", "docker.io/library/busybox:latest", "weighed", *STAY])
            if code:
                print(f"containerd's shim does not run here: {said.splitlines()[-1:]}\n")
                return None
            time.sleep(2)
            shim = next(int(p.parent.name) for p in Path("/proc").glob("[0-9]*/cmdline") if str(place).encode() in read(p) and b"shim" in read(p))
            weight = pss(shim)
            self.user.run([*ctr, "task", "rm", "-f", "weighed"])
            return weight
        except StopIteration:
            return None
        finally:
            daemon.terminate()
            daemon.wait(20)

    def many(self):
        count, seconds = self.options.alive, []
        self.user.checked(self.palisade("run", "--rm", self.image, "true", root=self.root))

        def start(root, *words):
            begun = time.monotonic()
            code, said = self.quietly(self.palisade("run", "-d", *words, self.image, *STAY, root=root))
            took = time.monotonic() - begun
            if code:
                sys.exit(f"bench: run -d: {said}")
            return took, said

        def turn(root):
            took, ident = start(root)
            self.user.run(self.palisade("rm", "-f", ident, root=root))
            return took

        try:
            for number in range(count):
                seconds.append(start(self.root, "--name", f"number-{number}")[0])
            some = max(5, min(25, count // 10))
            first, last = statistics.median(seconds[:some]), statistics.median(seconds[-some:])
            turns = [(turn(self.root), turn(None)) for _ in range(40)]
            beside, alone = (statistics.median(times) for times in zip(*turns, strict=True))
            rows = [[f"the first {some} starts", f"{first * 1e3:.1f}", f"{min(seconds[:some]) * 1e3:.1f}", "1.00"],
                    [f"the last {some} of {count}", f"{last * 1e3:.1f}", f"{min(seconds[-some:]) * 1e3:.1f}", ratio(last, first)],
                    ["in turns: in an empty directory", f"{alone * 1e3:.1f}", f"{min(t[1] for t in turns) * 1e3:.1f}", "1.00"],
                    [f"in turns: beside {count} others", f"{beside * 1e3:.1f}", f"{min(t[0] for t in turns) * 1e3:.1f}", ratio(beside, alone)]]
            table([f"`run -d`, {count} stay", "median ms", "least ms", "ratio"], rows)
            alive = self.user.checked(self.palisade("ps", "-q", root=self.root)).stdout.split()
            if len(alive) != count:
                sys.exit(f"bench: {count} were started and {len(alive)} run")
            listing = {name: self.palisade(*words, root=self.root) for name, words in {
                "ps": ["ps"], "ps -q": ["ps", "-q"], "ps -q -f name=^number-7$": ["ps", "-q", "-f", "name=^number-7$"],
                "inspect -f NAME": ["inspect", "-f", "{{.State.Running}}", "number-7"], "exec NAME true": ["exec", "number-7", "true"]}.items()}
            found = self.times(listing, 3, 10)
            table([f"{count} alive", "median ms", "least ms"], [
                [f"`{name}`", f"{statistics.median(times) * 1e3:.1f}", f"{min(times) * 1e3:.1f}"] for name, times in found.items()])
        finally:
            ids = self.user.run(self.palisade("ps", "-a", "-q", root=self.root)).stdout.split()
            begun = time.monotonic()
            if ids:
                self.user.run(self.palisade("rm", "-f", *ids, root=self.root))
            print(f"rm -f of all {len(ids)}: {time.monotonic() - begun:.1f} s\n")

    def logs(self):
        """Into a tmpfs, which the bench mounts itself; a log as large as what is written, so that nothing is rotated away."""
        place, size = self.user.home / "memory", self.options.gigabytes << 30
        place.mkdir()
        if os.geteuid() == 0:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=0700,size={2 * size}", "tmpfs", place], check=True)
        self.user.own(place)
        self.user.checked(self.palisade("run", "--rm", self.image, "true", root=place))
        write = f"dd if=/dev/zero bs=1M count={size >> 20} 2>/dev/null"
        rows = []
        floor = []
        for name, bare in (("a pipe into cat into the file", True), ("palisade's log", False)):
            best = []
            for _ in range(3):
                if bare:
                    begun = time.monotonic()
                    self.user.checked(["sh", "-c", f"{write} | cat > {shlex.quote(str(place / 'bare'))}"])
                    best.append(time.monotonic() - begun)
                    (place / "bare").unlink()
                    continue
                self.quietly(self.palisade("run", "-d", "--name", "talker", "--log-opt", f"max-size={2 * size}", self.image, "sh", "-c", write, root=place))
                self.user.checked(self.palisade("wait", "talker", root=place))
                state = json.loads(self.user.checked(self.palisade("inspect", "talker", root=place)).stdout)[0]["State"]
                best.append(stamp(state["FinishedAt"]) - stamp(state["StartedAt"]))
                if len(best) == 1:
                    self.check_log(place, size)
                self.user.run(self.palisade("rm", "-f", "talker", root=place))
            gigabytes = [size / seconds / 1e9 for seconds in best]
            floor = floor or gigabytes
            rows.append([name, f"{statistics.median(gigabytes):.2f}", f"{max(gigabytes):.2f}", ratio(statistics.median(gigabytes), statistics.median(floor))])
        table([f"{self.options.gigabytes} GiB on standard output", "median GB/s", "most GB/s", "ratio"], rows)

    def check_log(self, place, size):
        begun, digest, count = time.monotonic(), hashlib.sha256(), 0
        argv = self.user.prefix + [str(a) for a in self.palisade("logs", "talker", root=place)]
        with subprocess.Popen(argv, env=self.user.env, stdout=subprocess.PIPE) as reader:
            while block := reader.stdout.read(1 << 20):
                digest.update(block)
                count += len(block)
        expected, zeros = hashlib.sha256(), bytes(1 << 20)
        for _ in range(size >> 20):
            expected.update(zeros)
        if (count, digest.digest()) != (size, expected.digest()):
            sys.exit(f"bench: {size} bytes were written, and the log has {count}")
        print(f"read back: {count} bytes, as they were written, {count / (time.monotonic() - begun) / 1e9:.2f} GB/s with hashing\n")


def stamp(text):
    """Seconds of a time as inspect writes it, to the microsecond."""
    from datetime import datetime
    return datetime.strptime(text[:26].rstrip("Z").ljust(26, "0"), "%Y-%m-%dT%H:%M:%S.%f").timestamp()


def read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


def pss(pid):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def ratio(of, to, digits=2):
    return f"{of / to:.{digits}f}" if of and to else "–"


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench lifecycle", description="Sandboxes that live on, beside their peers.")
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part, may be repeated (all)")
    parser.add_argument("--rounds", type=int, default=8, help="rounds in which `exec` alternates (8)")
    parser.add_argument("--runs", type=int, default=20, help="runs of a command in a round (20)")
    parser.add_argument("--alive", type=int, default=500, help="sandboxes at once (500)")
    parser.add_argument("--gigabytes", type=int, default=2, help="GiB that are logged (2)")
    options = parser.parse_args()
    leave_hybrid_cgroups()
    print(f"{machine()}\n")
    print(", ".join(filter(None, (first_line([p, "--version"]) for p in ("crun", "runc", "podman", "conmon", "containerd")))) + "\n")
    with Ground() as ground:
        for user in ground.users:
            print(f"As {user.title}:\n")
            bench = Bench(ground, user, options)
            for part in options.only or PARTS:
                {"exec": bench.join, "life": bench.life, "memory": bench.memory, "many": bench.many, "logs": bench.logs}[part]()


main()
