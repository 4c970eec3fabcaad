"""Three workers in one folder, killed at random and replaced: `kill_workers.py FOLDER KILLS`; fails if a row is lost or
done twice.

Workers are forks of this process, which has imported everything, so that fifty take seconds.
"""

import dataclasses
import json
import os
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from batch_painter import Painter  # noqa: E402

import videopainter.batch.work  # noqa: E402, F401
from videopainter import engine  # noqa: E402
from videopainter.batch import command  # noqa: E402

ROWS, WORKERS = 120, 3


class Slow(Painter):
    def __call__(self, *given, **more):
        for frame in super().__call__(*given, **more):
            time.sleep(random.random() * 0.04)
            yield frame


def worker(folder: Path) -> int:
    """The process of a new worker."""
    pid = os.fork()
    if pid:
        return pid
    random.seed()
    sys.stdout = open(folder / f"{os.getpid()}.log", "w")  # noqa: SIM115
    arguments = ["--csv", str(folder / "a.csv"), "--output_dir", str(folder / "out")]
    status = command.main([*arguments, "--engine", "propagation"])
    sys.stdout.flush()
    os._exit(status)


def main(folder: Path, kills: int) -> None:
    spec = dataclasses.replace(engine.ENGINES["propagation"], location=f"{__name__}:Slow")
    engine.ENGINES["propagation"] = spec
    (folder / "a.csv").write_text("video,mask\n" + "a.mp4,a.npz\n" * ROWS)
    dice, running, killed, ended, stamps = random.Random(0), {}, 0, 0, {}
    while killed < kills:
        while len(running) < WORKERS:
            running[worker(folder)] = time.monotonic()
        time.sleep(dice.random() * 0.15)
        victims = dice.sample(list(running), k=3 if dice.random() < 0.1 else 1)  # now and then all of them
        for pid in victims:
            os.kill(pid, 9)
        for pid in victims:
            _, status = os.waitpid(pid, 0)
            running.pop(pid)
            killed += status == 9
            ended += status != 9
        found = {p.parent.name: p.stat().st_mtime_ns for p in (folder / "out").glob("*/row.json")}
        assert stamps.items() <= found.items(), "a row was lost or repeated"
        stamps = found
        assert len(found) < ROWS, f"all rows were done after {killed} kills"
    for pid in running:
        assert os.waitpid(pid, 0)[1] in (0, 256)
    last = worker(folder)
    assert os.waitpid(last, 0)[1] == 0, "rows are left"
    records = json.loads((folder / "out/manifest.json").read_text())
    assert [record["status"] for record in records] == ["done"] * ROWS
    left = {p.name for p in (folder / "out").iterdir()} - {record["name"] for record in records}
    assert left == {"batch.json", "manifest.json", "summary.csv"}, left
    counts: dict[str, int] = {}
    for log in folder.glob("*.log"):
        for line in log.read_text().splitlines():
            if "frames in" in line:
                counts[line.partition(":")[0]] = counts.get(line.partition(":")[0], 0) + 1
    assert max(counts.values()) == 1 and sum(counts.values()) > ROWS - kills, "a row was done twice"
    print(killed, "kills,", ended, "ended by themselves,", sum(counts.values()), "rows were done")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
