"""Two machines, as far as one can be two: network namespaces, names, and neither sees the other's processes."""

import shutil
import subprocess
import sys
from pathlib import Path

from batch_folder import ROOT, summary, table
from halted import wait_for

CODE = """
import os, socket, sys, time
sys.path[:0] = {paths}
import dataclasses
from batch_painter import Painter
from videopainter import engine
from videopainter.batch import command, workers
from videopainter.cli.errors import door
engine.ENGINES["propagation"] = dataclasses.replace(engine.ENGINES["propagation"], location="batch_painter:Painter")
socket.gethostname = lambda: {name!r}  # also where it cannot be given one
workers.KERNEL = {name!r}  # each is a machine of its own: neither sees the other's locks
time.time = lambda: {clock}
if {halts}:
    def halt(*given, **more):
        open({sign!r}, "w").close()
        time.sleep(3600)
    Painter.__call__ = halt
door(command.main)
"""


def machine(folder, name, clock, halts=False) -> subprocess.Popen:
    """The command on a machine of its own; `halts`: in its first row."""
    paths = [str(ROOT), str(ROOT / "tests/batch")]
    code = CODE.format(paths=paths, name=name, clock=clock, halts=halts, sign=str(folder / "halted"))
    full = [sys.executable, "-c", code, "--csv", folder / "a.csv", "--output_dir", folder / "out"]
    full = [*map(str, full), "--engine", "propagation", "--lease", "4"]
    script = f'hostname {name} && exec "$0" "$@"'
    apart = ["unshare", "--user", "--map-root-user", "--net", "--uts", "sh", "-c", script]
    # A container may forbid it, and other systems have none: then they are two machines by their names only.
    if (
        shutil.which("unshare") is None
        or subprocess.run([*apart[:-1], "true"], capture_output=True).returncode
    ):
        apart = []
    return subprocess.Popen([*apart, *full], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_machines_share_the_rows_and_one_does_what_the_other_leaves(folder):
    table(folder, *[["a.mp4", "a.npz"]] * 4)
    one = machine(folder, "one", "0.0", halts=True)
    wait_for((folder / "halted").exists, one)
    hosts = "".join(Path(p).read_text() for p in (folder / "out/.leases").glob("*.worker"))
    assert '"host": "one"' in hosts
    two = machine(folder, "two", "9e9")  # and clocks that are centuries apart
    wait_for(lambda: len(list((folder / "out").glob("*/row.json"))) == 3, two)
    assert two.poll() is None  # it waits for the row that the other is at
    one.kill()
    one.communicate()
    out, err = two.communicate(timeout=120)
    assert two.returncode == 0, err
    assert out.count("frames in") == 4 and "Others are at 1 rows" in out
    assert [line["status"] for line in summary(folder)] == ["done"] * 4
    assert not (folder / "out/.leases").exists()
