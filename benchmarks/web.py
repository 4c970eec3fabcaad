"""The page's interface: time to the first frame, a step, a jump, the mask after a click; memory of a long 4K film.

    python benchmarks/web.py --output benchmarks/results/web.md

Every figure is the median of several requests to a server in a process of its own, on the bundled clip and on a
generated 4K one, in the order in which the page asks: a frame that is looked at is prepared for clicks before there is
one. Two tabs are two readers that step through the same film at different places, while its small copy is made.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import httpx
import numpy as np
import psutil
from machine import processor

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT, RATE = 3840, 2160, 30
GOP = 60  # frames between key frames, as cameras write them
SHOWN = 1280  # pixels across which the page shows a frame
CLICK = {"kind": "click", "frame": 0, "x": 375, "y": 300}
COPYING = 30  # seconds of the making of the small copy that memory is watched for


def write_film(path: Path, seconds: int) -> None:
    """A 4K H.264 film; one coded group of pictures is repeated, which costs no encoding."""
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 256, (HEIGHT // 40, WIDTH // 40 + 8, 3), np.uint8).repeat(40, 0).repeat(40, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=RATE, options={"preset": "ultrafast", "crf": "23", "g": str(GOP)}
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.options = {"bf": "0"}
        packets = []
        for i in range(GOP):
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(ground[:, 4 * i : 4 * i + WIDTH]), format="rgb24"
            )
            frame.pts, frame.time_base = i, Fraction(1, RATE)
            packets += stream.encode(frame)
        packets += stream.encode()
        coded = [(bytes(packet), packet.is_keyframe) for packet in packets]
        ticks = round(1 / RATE / packets[0].time_base) if packets[0].time_base else 1
        base = packets[0].time_base
        for k in range(seconds * RATE // GOP):
            for i, (data, key) in enumerate(coded):
                packet = av.Packet(data)
                packet.stream, packet.time_base, packet.is_keyframe = stream, base, key
                packet.pts = packet.dts = (k * GOP + i) * ticks
                packet.duration = ticks
                container.mux(packet)


class Server:
    """`videopainter web` in a process, and the most memory that it and its children have held."""

    def __init__(self, workspace: Path, *arguments: str):
        command = [sys.executable, "-m", "videopainter.cli.web", "--workspace", str(workspace), "--port", "0"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [*command, *arguments], env=environment, stdout=subprocess.PIPE, text=True
        )
        address, _, self.project = self.process.stdout.readline().split()[3].partition("#project=")
        self.client = httpx.Client(base_url=address, timeout=600)
        self.peak, self._stop = 0.0, threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()

    def _look(self) -> None:
        """Proportional set size: what processes share is counted once."""
        process = psutil.Process(self.process.pid)
        while not self._stop.wait(0.1):
            try:
                own = process.memory_full_info().pss
                rest = sum(child.memory_full_info().pss for child in process.children(recursive=True))
            except (psutil.Error, OSError):
                continue
            self.peak = max(self.peak, (own + rest) / 2**20)

    def close(self) -> None:
        self._stop.set()
        self._watch.join()
        self.client.close()
        self.process.terminate()
        self.process.wait(30)


def timed(call) -> float:
    """Milliseconds."""
    start = time.perf_counter()
    answer = call()
    assert answer.status_code < 300, answer.text
    return 1000 * (time.perf_counter() - start)


def frame(server: Server, project: str, number: int) -> float:
    return timed(
        lambda: server.client.get(f"/api/projects/{project}/frames/{number}", params={"width": SHOWN})
    )


def measure(path: Path, click: bool) -> dict[str, float]:
    """Milliseconds by name."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        with open(path, "rb") as file:
            data = file.read()
        start = time.perf_counter()
        project = server.client.post("/api/projects", params={"name": path.name}, content=data).json()
        name, count = project["id"], project["frames"]
        found["uploaded and first frame shown"] = frame(server, name, 0)
        found["uploaded and first frame shown"] = 1000 * (time.perf_counter() - start)
        middle = count // 2
        found["a jump to the middle"] = frame(server, name, middle)
        found["a step on"] = statistics.median(frame(server, name, middle + i) for i in range(1, 12))
        found["a step back"] = statistics.median(frame(server, name, middle + 10 - i) for i in range(1, 4))
        found["a frame shown before"] = statistics.median(
            frame(server, name, middle + i) for i in range(1, 12)
        )
        found["a frame prepared for clicks"] = timed(
            lambda: server.client.post(f"/api/projects/{name}/frames/0/prepare")
        )
        if click:
            things = {"objects": [{"id": 1, "name": "thing", "prompts": [CLICK]}]}
            found["the first click's mask"] = timed(
                lambda: server.client.put(f"/api/projects/{name}/objects", json=things)
            ) + timed(
                lambda: server.client.get(f"/api/projects/{name}/frames/0/masks", params={"margin": 12})
            )
            things["objects"][0]["prompts"].append({**CLICK, "y": 135})
            found["the next click's mask"] = timed(
                lambda: server.client.put(f"/api/projects/{name}/objects", json=things)
            ) + timed(
                lambda: server.client.get(f"/api/projects/{name}/frames/0/masks", params={"margin": 12})
            )
        server.close()
    return found


def open_twice(film: Path, steps: int) -> tuple[float, float, int]:
    """Of a film in two tabs: MiB of the server and its processes, seconds until the first frame, frames of its small
    copy that were made meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        server = Server(Path(folder), str(film))
        count = server.client.get(f"/api/projects/{server.project}").json()["frames"]
        frame(server, server.project, 0)
        first = time.perf_counter() - start
        server.client.post(f"/api/projects/{server.project}/frames/0/prepare").raise_for_status()
        copying = time.perf_counter() + COPYING
        server.client.post(f"/api/projects/{server.project}/proxy").raise_for_status()
        for i in range(24):  # the timeline's thumbnails
            server.client.get(f"/api/projects/{server.project}/thumbnails/{i * (count - 1) // 23}")

        def tab(at: int) -> None:
            for i in range(steps):
                frame(server, server.project, at + i)

        tabs = [threading.Thread(target=tab, args=(at,)) for at in (100, count // 2)]
        for one in tabs:
            one.start()
        for one in tabs:
            one.join()
        click = {**CLICK, "x": WIDTH // 2, "y": HEIGHT // 2}
        things = {"objects": [{"id": 1, "name": "thing", "prompts": [click]}]}
        server.client.put(f"/api/projects/{server.project}/objects", json=things).raise_for_status()
        time.sleep(max(0.0, copying - time.perf_counter()))
        (job,) = server.client.get(f"/api/projects/{server.project}").json()["jobs"]
        server.close()
    return server.peak, first, job["done"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, help="a file for the table")
    parser.add_argument("--minutes", type=int, default=10, help="length of the long 4K film (default: 10)")
    parser.add_argument("--steps", type=int, default=30, help="frames that each tab steps (default: 30)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        short, long = Path(folder, "short.mp4"), Path(folder, "long.mp4")
        write_film(short, 10)
        columns = {
            "bundled clip": measure(ROOT / "examples/cup.mp4", True),
            "4K, 10 s": measure(short, False),
        }
        write_film(long, 60 * args.minutes)
        everything, first, copied = open_twice(long, args.steps)
    names = list(columns["bundled clip"])
    rows = [f"| milliseconds | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for name in names:
        values = [f"{column[name]:.0f}" if name in column else "" for column in columns.values()]
        rows.append(f"| {name} | {' | '.join(values)} |")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    text = f"""# The page

`{" ".join(["python", *sys.argv])}` on {processor()}, {os.cpu_count()} cores, load {load:.1f} while it ran.

{chr(10).join(rows)}

A 4K film of {args.minutes} minutes in two tabs that each step {args.steps} frames, with the thumbnails, a click,
and its small copy in the making ({copied} frames in {COPYING} s): the server and all its processes hold at most
{everything:.0f} MiB.
The first frame came {first:.1f} s after the command was started, Python's own start included.
"""
    print(text)
    if args.output:
        args.output.write_text(text)


if __name__ == "__main__":
    main()
