#!/usr/bin/env python3
"""How fast the live stream is, how long a frame takes, and what memory it needs.

    python benchmarks/dstt.py speed     # CPU: frames a second of PyTorch and onnxruntime, small and full
    python benchmarks/dstt.py latency   # CPU: milliseconds a frame over 1,000 frames, p50 and p99
    python benchmarks/dstt.py memory    # CPU: memory of the process over 10,000 frames
    python benchmarks/dstt.py gpu       # GPU: the same by precision and number of streams
    python benchmarks/dstt.py smoke     # all of it with a tiny network, the GPU's part on the CPU

Frames are those of examples/cup.mp4, forwards and backwards again and again, a hole wandering over them. Of times the
middle one of many is taken, and beside it the CPU's own time, which other work on the machine changes little. Weights
are random: neither time nor memory depends on them. Tables are printed in Markdown; the ones that were kept are in
`results/dstt.md`. How good the results are: `dstt_quality.py`.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from machine import machine  # noqa: E402

from videopainter.dstt.config import preset  # noqa: E402
from videopainter.dstt.stream import DSTTStream, network_inputs  # noqa: E402

WARM = 5  # frames before the clock starts: libraries choose their ways in the first ones

FRAMES = {"tiny": 2, "small": 100, "full": 8}  # for a middle one


def network(name: str):
    """A network of that preset with random weights that leave no path closed."""
    import torch

    from videopainter.dstt.model import DSTT

    torch.manual_seed(0)
    model = DSTT(preset(name))
    torch.nn.init.normal_(model.decoder.last.weight, std=1e-3)
    return model.eval()


def onnx_of(name: str, folder: str, threads: int | None, device: str = "cpu"):
    """The same network exported, as onnxruntime runs it; the file stays in ``folder``."""
    from videopainter.dstt.export import export_onnx
    from videopainter.dstt.runner_onnx import OnnxRunner

    path = Path(folder) / f"{name}.onnx"
    if not path.is_file():
        export_onnx(network(name), path)
    return OnnxRunner(path, threads, device)


@cache
def pictures(size: tuple[int, int], frames: int) -> list[tuple[np.ndarray, np.ndarray]]:
    import cv2

    from videopainter.dstt.export import CLIP, real_clip

    def resize(picture, how):
        return cv2.resize(picture, size[::-1], interpolation=how)

    clip = zip(*real_clip(CLIP, frames))
    return [(resize(f, cv2.INTER_AREA), resize(m.view(np.uint8), cv2.INTER_NEAREST) > 0) for f, m in clip]


def film(size: tuple[int, int], frames: int = 60) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(frame uint8 (h, w, 3), hole bool (h, w)) for ever, made of as many ``frames`` of the example."""
    found = pictures(size, frames)
    yield from cycle(found + found[-2:0:-1])


@dataclass
class Times:
    """Seconds of each of many calls: by the clock, and those that this process computed."""

    wall: np.ndarray
    cpu: np.ndarray

    def __str__(self) -> str:
        wall, cpu = np.median(self.wall), np.median(self.cpu)
        return f"{wall * 1000:.1f} ms, {1 / wall:.1f} a second ({cpu * 1000:.1f} ms of CPU)"


def times_of(work: Callable[[], None], count: int) -> Times:
    """Of ``count`` calls, after `WARM` that do not count."""
    wall, cpu = [], []
    for _ in range(WARM + count):
        start, computed = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - computed)
    return Times(np.array(wall[WARM:]), np.array(cpu[WARM:]))


def network_times(runner, count: int, streams: int = 1) -> Times:
    """What the network takes for a frame of each of ``streams``, its inputs ready."""
    import torch

    from videopainter.dstt.align import preprocess

    size = runner.config.size
    frame, mask = next(film(size, 2))
    inputs = network_inputs([preprocess(frame, mask)] * streams, [None] * streams)
    memory = runner.empty(streams, size)

    def work() -> None:
        nonlocal memory
        memory = runner(*inputs, memory)[2]
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return times_of(work, count)


def stream_times(runner, count: int) -> Times:
    """What the whole stream takes for a frame of the network's size: alignment, network and the rest."""
    stream, frames = DSTTStream(runner), film(runner.config.size)
    return times_of(lambda: stream(*next(frames)), count)


def runners(name: str, threads: int | None, folder: str, only: str | None):
    """(library, network) of that preset for both libraries, or for ``only`` one of them."""
    from videopainter.dstt.runner import TorchRunner

    if only != "onnxruntime":
        yield "PyTorch", TorchRunner(network(name), threads)
    if only != "PyTorch":
        yield "onnxruntime", onnx_of(name, folder, threads)


def speed(folder: str, names=("small", "full"), threads: int | None = None, only=None) -> None:
    print(
        "| network | pictures | parameters | run by | network alone | whole stream |\n|---|---|---|---|---|---|"
    )
    for name in names:
        count = FRAMES[name]
        height, width = preset(name).size
        parameters = sum(p.numel() for p in network(name).parameters()) / 1e6
        for library, runner in runners(name, threads, folder, only):
            alone, whole = network_times(runner, count), stream_times(runner, count)
            print(
                f"| {name} | {width} x {height} | {parameters:.2f} M | {library} | {alone} | {whole} |",
                flush=True,
            )


def latency(folder: str, name="small", threads: int | None = None, only=None, count=1000) -> None:
    height, width = preset(name).size
    print("| network | frames | run by | p50 | p99 | longest | p99 of CPU |\n|---|---|---|---|---|---|---|")
    for library, runner in runners(name, threads, folder, only):
        times = stream_times(runner, count)
        p50, p99, longest = np.percentile(times.wall, (50, 99, 100)) * 1000
        print(
            f"| {name} | {count} of {width} x {height} | {library} | {p50:.1f} ms | {p99:.1f} ms | {longest:.1f} ms "
            f"| {np.percentile(times.cpu, 99) * 1000:.1f} ms |",
            flush=True,
        )


def resident() -> float:
    """MiB of this process that are in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory(
    folder: str, name="small", threads: int | None = None, only=None, count=10_000, size=(64, 96)
) -> None:
    marks = [count // 100, count // 10, count // 4, count // 2, count]
    print(f"| network, frames of {size[1]} x {size[0]} | run by | start |", end="")
    print(*(f" {mark} frames |" for mark in marks), sep="")
    print("|---|---|---|" + "---|" * len(marks))
    for library, runner in runners(name, threads, folder, only):
        stream, frames, sizes = DSTTStream(runner), film(size), [resident()]
        for i in range(1, count + 1):
            stream(*next(frames))
            if i in marks:
                sizes.append(resident())
        cells = " | ".join(f"{mib:.1f} MiB" for mib in sizes)
        print(f"| {name} | {library} | {cells} |", flush=True)


def gpu(
    folder: str, names=("small", "full"), device="cuda", count=300, batches=(1, 4), halves=(False, True)
) -> None:
    """Frames a second are those of all streams together."""
    import torch

    from videopainter.dstt.runner import TorchRunner

    print(
        "| network | run by | precision | streams | network alone | p99 | whole stream, one | peak on the GPU |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        found = [("PyTorch", half, TorchRunner(_to(network(name), device, half))) for half in halves]
        found += _onnx_on(device, name, folder)
        for library, half, runner in found:
            for streams in batches:
                if device == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                alone = network_times(runner, count, streams).wall
                peak = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else float("nan")
                whole = stream_times(runner, count) if streams == 1 else ""
                print(
                    f"| {name} | {library} | {'float16' if half else 'float32'} | {streams} "
                    f"| {np.median(alone) * 1000:.2f} ms, {streams / np.median(alone):.0f} a second "
                    f"| {np.percentile(alone, 99) * 1000:.2f} ms | {whole} | {peak:.0f} MiB |",
                    flush=True,
                )


def _to(model, device: str, half: bool):
    import torch

    return model.to(device, torch.float16 if half else torch.float32)


def _onnx_on(device: str, name: str, folder: str) -> list:
    """onnxruntime's line, where its build can use the device."""
    import onnxruntime

    if device == "cuda" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return []
    return [("onnxruntime", False, onnx_of(name, folder, None, device))]


def smoke(folder: str) -> None:
    speed(folder, ("tiny",), 1)
    latency(folder, "tiny", 1, count=3)
    memory(folder, "tiny", 1, count=100, size=(32, 48))
    gpu(folder, ("tiny",), "cpu", 2, halves=(False,))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("speed", "latency", "memory", "gpu", "smoke"))
    parser.add_argument("--threads", type=int, help="on the CPU (default: what each library takes)")
    parser.add_argument("--network", choices=FRAMES, help="not those that are the default")
    parser.add_argument("--by", choices=("PyTorch", "onnxruntime"), help="only this library, on the CPU")
    args = parser.parse_args(argv)
    if args.threads:
        import cv2
        import torch

        torch.set_num_threads(args.threads)
        cv2.setNumThreads(args.threads)
    print(f"{machine()}{f', {args.threads} threads' if args.threads else ''}\n")
    options = {"threads": args.threads, "only": args.by}
    with tempfile.TemporaryDirectory() as folder:
        if args.what in ("gpu", "smoke"):
            {"gpu": gpu, "smoke": smoke}[args.what](folder)
        elif args.what == "speed":
            speed(folder, (args.network,) if args.network else ("small", "full"), **options)
        else:
            work = {"latency": latency, "memory": memory}[args.what]
            work(folder, args.network or "small", **options)


if __name__ == "__main__":
    main()
