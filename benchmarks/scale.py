"""How the batch grows with its workers: rows a minute, what claiming a row costs, what a kill costs.

    python benchmarks/scale.py [claims] [workers] [kill]        all three without names; writes results/scale.md

Workers of the claims are forks that do nothing with a row but claim it, note it as done and give it back, all in one
folder, each going through all rows.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from machine import machine  # noqa: E402

from videopainter.batch.records import Records  # noqa: E402
from videopainter.video import VideoWriter, open_video  # noqa: E402

RESULTS = ROOT / "benchmarks/results/scale.md"
ROWS, PROCESSES, CLIPS = 10_000, (1, 8, 32), 8


def claims(folder: Path) -> list[str]:
    """Seconds of all processes for all rows, and of a row in claiming alone."""
    lines = ["| processes | ms a row, all in all | ms a row, claiming | rows done twice or not at all |"]
    lines.append("|---|---|---|---|")
    for count in PROCESSES:
        out = folder / f"claims{count}"
        begun, children = time.perf_counter(), []
        for index in range(count):
            pid = os.fork()
            if not pid:
                os._exit(_claim_all(out, folder / f"{count}-{index}", index * ROWS // count))
            children.append(pid)
        assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
        whole = time.perf_counter() - begun
        mine = [line.split() for path in folder.glob(f"{count}-*") for line in path.read_text().splitlines()]
        claimed = sum(float(seconds) for seconds, _ in mine)
        wrong = abs(ROWS - sum(int(rows) for _, rows in mine))
        lines.append(f"| {count} | {1e3 * whole / ROWS:.2f} | {1e3 * claimed / ROWS / count:.2f} | {wrong} |")
        print(lines[-1], flush=True)
        shutil.rmtree(out)
    return lines


def _claim_all(out: Path, note: Path, start: int) -> int:
    """One process: every row that no other has; its seconds in claiming, and how many rows it had, into `note`."""
    records, spent, done = Records(out), 0.0, 0
    records.worker.join()
    waiting = [f"{(start + i) % ROWS:05d}_row" for i in range(ROWS)]
    while waiting:
        left = []
        for name in waiting:
            before = time.perf_counter()
            settled = records.settled(name, "key")
            lease = None if settled else records.leases.claim(name)
            ours = lease is not None and not records.settled(name, "key")
            spent += time.perf_counter() - before
            if ours:
                with records.begin(name) as place:
                    records.finish(name, "key", place, {})
                done += 1
            before = time.perf_counter()
            if lease is not None:
                records.leases.give_back(lease)
            spent += time.perf_counter() - before
            if not settled and lease is None:
                left.append(name)
        waiting = left
    note.write_text(f"{spent} {done}")
    records.leave()
    return 0


def clips(folder: Path) -> Path:
    """A table of `CLIPS` pieces of the shot in examples/, a third of its size."""
    rows = []
    with open_video(ROOT / "examples/cup.mp4") as shot:
        for i in range(CLIPS):
            frames = [
                cv2.resize(f, (216, 160), interpolation=cv2.INTER_AREA) for f in shot[10 * i : 10 * i + 24]
            ]
            with VideoWriter(folder / f"c{i}.mp4", shot.fps, (160, 216)) as writer:
                writer.write(np.stack(frames))
            masks = np.zeros((24, 160, 216), np.uint8)
            masks[:, 20:60, 20:70] = 1
            np.savez_compressed(folder / f"c{i}.npz", masks)
            rows.append([f"c{i}.mp4", f"c{i}.npz"])
    with open(folder / "clips.csv", "w", newline="") as file:
        csv.writer(file).writerows([["video", "mask"], *rows])
    return folder / "clips.csv"


def start(table: Path, out: Path, *more: str) -> subprocess.Popen:
    full = [sys.executable, str(ROOT / "infer/inpaint.py"), "--csv", str(table), "--output_dir", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*full, "--engine", "propagation", *more], stdout=subprocess.DEVNULL, env=environment
    )


def workers(folder: Path) -> list[str]:
    """Rows a minute with one and with two commands in one folder."""
    table, found = clips(folder), []
    for count in (1, 2):
        begun = time.perf_counter()
        started = [start(table, folder / f"workers{count}") for _ in range(count)]
        assert all(process.wait() == 0 for process in started)
        found.append(60 * CLIPS / (time.perf_counter() - begun))
    one, two = found
    return [
        f"{CLIPS} clips of 24 frames, 216 x 160, the engine `propagation`: {one:.1f} rows a minute with one worker, "
        f"{two:.1f} with two ({two / one:.2f} times as many)."
    ]


def kill(folder: Path) -> list[str]:
    """Seconds from the kill of a worker to the next lease on its row, where another one waits on the same machine."""
    (folder / "kill").mkdir()
    table, found = clips(folder / "kill"), []
    for trial in range(3):
        out = folder / f"kill/out{trial}"
        started = [start(table, out, "--rows", "0:1") for _ in range(2)]
        while not (leases := list(out.glob(".leases/*@0"))):
            time.sleep(0.005)
        owner = json.loads(leases[0].read_text())["pid"]
        time.sleep(1)
        victim = next(process for process in started if process.pid == owner)
        victim.kill()
        begun = time.perf_counter()
        while not list(out.glob(".leases/*@1")):
            time.sleep(0.005)
        found.append(time.perf_counter() - begun)
        assert [process.wait() for process in started if process is not victim] == [0]
    return [
        "Seconds from a kill until a worker that waits is at the row, from its beginning: "
        f"{', '.join(f'{seconds:.1f}' for seconds in found)}; on another machine up to `--lease` (90) more."
    ]


def main(names: list[str]) -> None:
    parts = {"claims": claims, "workers": workers, "kill": kill}
    text = ["# The batch and its workers", "", "`python benchmarks/scale.py`", ""]
    with tempfile.TemporaryDirectory() as folder:
        for name in names or parts:
            print(name, flush=True)
            text += [*parts[name](Path(folder)), ""]
    load = os.getloadavg()[0]
    RESULTS.write_text("\n".join([*text, f"{machine()}; others were at work on it (load {load:.0f}).", ""]))
    print(RESULTS.read_text())


if __name__ == "__main__":
    main(sys.argv[1:])
