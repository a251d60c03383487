"""What unpacking costs at least on this machine: inflating, hashing and creating the files, each measured alone in one thread.

Its wall time is their sum over the number of CPUs.
"""

import json
import os
import shutil
import time


def layers(layout):
    """Paths of the layer blobs of a layout with one manifest."""
    def blob(descriptor):
        return layout / "blobs" / descriptor["digest"].replace(":", "/")

    manifest = json.loads(blob(json.loads((layout / "index.json").read_text())["manifests"][0]).read_text())
    return [blob(layer) for layer in manifest["layers"]]


def fresh(user, path, memory):
    """An empty directory of the user's, with nothing left to be written back.

    On a disk, what was there is only moved away: whoever makes files on ext4 in the minutes after a large removal pays up to ten
    times the price.
    """
    if path.exists():
        if memory:
            shutil.rmtree(path)
        else:
            path.rename(path.with_name(f"old-{time.monotonic_ns()}"))
    path.mkdir()
    user.own(path)
    os.sync()


def unpacked(ground, user):
    """The agent image's whole tree, made once a user."""
    tree = user.home / "tree"
    if not tree.exists():
        user.checked(["umoci", "unpack", *(["--rootless"] if user.uid else []), "--image", f"{ground.image('agent.oci')}:latest", tree])
    return tree / "rootfs"


def parts_of(ground, user, layout, tree, place, memory):
    """The parts of unpacking alone: name → (wall, CPU) seconds."""
    program = ground.work / "floor"
    if not program.exists():
        shutil.copy(os.environ["PALISADE_FLOOR"], program)
    parts = {}
    for name, arguments in (("inflate", layers(layout)), ("hash", layers(layout)), ("create", [tree, place])):
        fresh(user, place, memory)
        measured = json.loads(user.checked([program, name, *arguments]).stdout)
        parts[name] = (measured["wall"], measured["cpu"])
    return parts


def cheapest(parts):
    """Of the parts' (wall, CPU) seconds, round by round: the floor of each round, and the least of all."""
    cpus = os.cpu_count()
    whole = [(sum(w) / cpus, sum(c)) for w, c in (zip(*run, strict=True) for run in zip(*parts.values(), strict=True))]
    return whole, (min(w for w, _ in whole), min(c for _, c in whole))
