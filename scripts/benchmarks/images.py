"""Pulling the agent image to where it can be run, and pushing it: palisade beside skopeo with umoci, podman and buildah.

Usage: scripts/bench images [--rounds N] [--disk DIR] [--zstd]

The registry is Debian's docker-registry on loopback, with TLS and basic authentication. Commands alternate in rounds, each into an
empty place; CPU seconds are those of a command and its descendants, not of the registry. The peak is that of the largest process. The
floor is that of `scripts/bench unpack`, without what fetching costs. A warm run is one of the pulled image, beside one of the same tree as `dir:`.
"""

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import time

from floor import cheapest, fresh, parts_of, unpacked
from ground import Ground, first_line, leave_hybrid_cgroups, machine, table

USER, PASSWORD = "bench", "bench"


class Registry:
    """A docker-registry below a work directory."""

    def __init__(self, work, name):
        self.place = work / name
        self.place.mkdir()
        self.tls = work / "tls"
        if not self.tls.exists():
            self.certificates()
        self.configuration = self.place / "config.yml"
        self.start()

    def certificates(self):
        self.tls.mkdir()
        (self.tls / "trusted").mkdir()
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.crt",
                        "-days", "2", "-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1"],
                       cwd=self.tls, check=True, stderr=subprocess.DEVNULL)
        shutil.copy(self.tls / "server.crt", self.tls / "trusted/ca.crt")
        made = subprocess.run(["htpasswd", "-nbB", USER, PASSWORD], check=True, capture_output=True).stdout
        (self.tls / "htpasswd").write_bytes(made)
        for path in (self.tls, self.tls / "trusted"):
            path.chmod(0o755)

    def start(self):
        self.configuration.write_text(f"""version: 0.1
log: {{level: info, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {self.place}/data}}}}
auth: {{htpasswd: {{realm: bench, path: {self.tls}/htpasswd}}}}
http: {{addr: "127.0.0.1:0", tls: {{certificate: {self.tls}/server.crt, key: {self.tls}/server.key}}}}
""")
        log = self.place / "log"
        with open(log, "wb") as file:
            self.process = subprocess.Popen(["docker-registry", "serve", self.configuration], stdout=file, stderr=file)
        while "listening on" not in log.read_text():
            if self.process.poll() is not None:
                sys.exit(f"bench: docker-registry does not start: {log.read_text()}")
            time.sleep(0.02)
        port = log.read_text().split("listening on 127.0.0.1:")[1].split()[0].rstrip(',"')
        self.host = f"127.0.0.1:{port}"

    def emptied(self):
        """The same with nothing in it."""
        self.close()
        shutil.rmtree(self.place / "data", ignore_errors=True)
        self.start()
        return self

    def close(self):
        self.process.kill()
        self.process.wait()


def timed(user, commands):
    """Wall and CPU seconds and the peak in MiB of commands one after another; what went wrong is raised."""
    log, wall, cpu, peak = user.home / "output", 0, 0, 0
    for argv in commands:
        with open(log, "wb") as output:
            start = time.monotonic()
            child = subprocess.Popen(user.prefix + [str(a) for a in argv], env=user.env, cwd=user.home,
                                     stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
            _, status, usage = os.wait4(child.pid, 0)
            wall += time.monotonic() - start
            child.returncode = os.waitstatus_to_exitcode(status)
        cpu += usage.ru_utime + usage.ru_stime
        peak = max(peak, usage.ru_maxrss / 1024)
        if child.returncode:
            lines = log.read_text(errors="replace").strip().splitlines()
            raise RuntimeError(lines[-1] if lines else f"exit {child.returncode}")
    return wall, cpu, peak


def pulls(ground, user, registry, tag, place):
    name = f"{registry.host}/agent:{tag}"
    trusted = registry.tls / "trusted"
    user.env["PALISADE_ROOT"] = str(place / "palisade")
    containers = ["--root", place / "storage", "--runroot", user.home / "r"]  # podman wants at most 50 characters
    found = {
        "palisade": [[ground.palisade, "pull", "-q", "--ca-file", trusted / "ca.crt", name]],
        "skopeo + umoci": [
            ["skopeo", "--insecure-policy", "copy", "--quiet", "--src-cert-dir", trusted, f"docker://{name}", f"oci:{place}/oci:x"],
            ["umoci", "unpack", *(["--rootless"] if user.uid else []), "--image", f"{place}/oci:x", place / "bundle"]],
        "podman": [["podman", *containers, "pull", "--quiet", "--cert-dir", trusted, name]],
        "buildah": [["buildah", *containers, "pull", "--quiet", "--cert-dir", trusted, name]],
    }
    if tag == "zstd":
        # umoci 0.4 does not know zstd.
        del found["skopeo + umoci"]
    return found


def pushes(ground, user, registry, held):
    name = f"{registry.host}/agent:pushed"
    trusted = registry.tls / "trusted"
    user.env["PALISADE_ROOT"] = str(held)
    images = held / "images"
    user.checked(["skopeo", "--insecure-policy", "copy", "--quiet", f"oci:{ground.image('agent.oci')}:latest", f"oci:{images}:{name}"])
    return {
        "palisade": [[ground.palisade, "push", "-q", "--ca-file", trusted / "ca.crt", name]],
        "skopeo": [["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-cert-dir", trusted,
                    f"oci:{images}:{name}", f"docker://{name}"]],
    }


def warm(ground, user, registry, rounds):
    """Milliseconds of `true` in a pulled image and in the same tree as a directory: each one's times."""
    user.env["PALISADE_ROOT"] = str(user.home / "warm")
    name = f"{registry.host}/agent:gzip"
    user.checked([ground.palisade, "pull", "-q", "--ca-file", registry.tls / "trusted/ca.crt", name])
    words = [str(ground.palisade), "run", "--rm", "--entrypoint", "/bin/true"]
    commands = {"pulled image": [*words, name], "dir:": [*words, f"dir:{unpacked(ground, user)}"]}
    export, taken = user.home / "hyperfine.json", {what: [] for what in commands}
    for _ in range(rounds):
        user.checked(["hyperfine", "--shell=none", "--style=none", "--warmup", "3", "--runs", "50", "--export-json", export,
                      *map(shlex.join, commands.values())])
        for what, measured in zip(commands, json.loads(export.read_text())["results"], strict=True):
            taken[what] += [1e3 * seconds for seconds in measured["times"]]
        commands = dict(reversed(commands.items()))
    return taken


def show_warm(title, taken):
    to = taken["dir:"]
    table([title, "median ms", "least ms", "median more", "least more"],
          [[what, f"{statistics.median(times):.2f}", f"{min(times):.2f}", f"{statistics.median(times) - statistics.median(to):.2f}",
            f"{min(times) - min(to):.2f}"] for what, times in taken.items()])


def show(title, taken, refused, floor=None):
    ours = taken.get("palisade", [])

    def row(name, runs):
        wall, cpu, peak = zip(*runs, strict=True)
        ratios = [f"{min(run[i] for run in runs) / min(run[i] for run in ours):.1f}" if ours else "–" for i in (0, 1)]
        over = [f"{min(wall) / floor:.2f}"] if floor else []
        return [name, f"{statistics.median(wall):.2f}", f"{min(wall):.2f}", f"{statistics.median(cpu):.2f}", f"{min(cpu):.2f}",
                f"{max(peak):.0f}", *ratios, *over]

    table([title, "wall s", "least", "CPU s", "least", "peak MiB", "wall / ours", "CPU / ours", *(["wall / floor"] if floor else [])],
          [row(name, runs) for name, runs in taken.items()])
    for name, words in refused.items():
        print(f"{name} does not run here: {words}\n")


def rounds_of(count, user, commands, before, begin=lambda: None):
    """Runs each of `commands()` once a round, after `before()`; each round after `begin()`."""
    taken, refused = {}, {}
    for _ in range(count):
        begin()
        for name in commands():
            if name in refused:
                continue
            before()
            try:
                taken.setdefault(name, []).append(timed(user, commands()[name]))
            except (RuntimeError, OSError) as error:
                refused[name] = str(error)
                taken.pop(name, None)
    return taken, refused


def log_in(ground, user, registry):
    """palisade's own login, which skopeo, podman and buildah read too."""
    words = [ground.palisade, "login", "--ca-file", registry.tls / "trusted/ca.crt", "-u", USER, "-p", PASSWORD, registry.host]
    user.checked(words)


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench images", description="Pulling and pushing the agent image, beside its peers.")
    parser.add_argument("--rounds", type=int, default=3, help="rounds in which the commands alternate (3)")
    parser.add_argument("--disk", default="/var/tmp", help="a directory on a disk (/var/tmp)")
    parser.add_argument("--memory", action="store_true", help="that directory is on a tmpfs: what was there is removed, not moved away")
    parser.add_argument("--zstd", action="store_true", help="also the image with zstd layers")
    options = parser.parse_args()
    leave_hybrid_cgroups()
    print(f"{machine()}\n")
    programs = ("umoci", "skopeo", "podman", "buildah", "docker-registry")
    print(", ".join(filter(None, (first_line([p, "--version"]) for p in programs))) + "\n")
    with Ground(options.disk) as ground:
        source = Registry(ground.work, "registry")
        for tag in ("gzip", "zstd") if options.zstd else ("gzip",):
            layout = ground.image("agent.oci" if tag == "gzip" else "agent.oci-zstd")
            subprocess.run(["skopeo", "--insecure-policy", "copy", "--quiet", "--dest-creds", f"{USER}:{PASSWORD}", "--dest-cert-dir",
                            source.tls / "trusted", f"oci:{layout}:latest", f"docker://{source.host}/agent:{tag}"], check=True)
            for user in ground.users:
                log_in(ground, user, source)
                place = user.home / "place"
                parts = {}

                def floor():
                    for name, seconds in parts_of(ground, user, layout, unpacked(ground, user), place, options.memory).items():
                        parts.setdefault(name, []).append(seconds)

                taken, refused = rounds_of(options.rounds, user, lambda: pulls(ground, user, source, tag, place),
                                           lambda: fresh(user, place, options.memory), floor)
                show(f"pull, {tag}, {user.title}", taken, refused, cheapest(parts)[1][0])
        for user in ground.users:
            show_warm(f"warm run, {user.title}", warm(ground, user, source, options.rounds))
        source.close()
        for user in ground.users:
            held = user.home / "held"
            held.mkdir()
            held.chmod(0o755)
            user.own(held)
            (held / "images").mkdir()
            user.own(held)
            to = Registry(ground.work, f"empty-{user.uid}")

            def before():
                log_in(ground, user, to.emptied())

            taken, refused = rounds_of(options.rounds, user, lambda: pushes(ground, user, to, held), before)
            show(f"push, {user.title}", taken, refused)
            to.close()
    sys.stdout.flush()


main()
