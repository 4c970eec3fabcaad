#!/usr/bin/env python3
"""What E2FGVI costs: seconds a frame and peak memory, and what reusing features saves.

    python benchmarks/e2fgvi.py cost      # CPU, one thread: 12 recorded frames, 160 x 110, with and without reuse
    python benchmarks/e2fgvi.py reuse     # how often the encoder and the flow network run, by length; nothing is timed
    python benchmarks/e2fgvi.py memory    # CPU: peak of the process for 20, 80 and 320 frames, 320 x 240
    python benchmarks/e2fgvi.py gpu       # GPU: memory and seconds by size, length and precision
    python benchmarks/e2fgvi.py smoke     # the code of `gpu`, small and on the CPU

Weights are random unless --weights names a file or folder: neither time nor memory depends on them. Tables are
printed in Markdown; the ones that were kept are in `results/e2fgvi.md`.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from machine import machine, peak_mb  # noqa: E402
from sliding import paint_all  # noqa: E402

# A frame: the public code on the same case, one thread (tests/parity/data/e2fgvi/pipeline_hq.json).
REFERENCE_SECONDS, REFERENCE_MB = 2.35, 1199
GPU_SIZES = ((1280, 720), (720, 480), (432, 240))  # width, height
GPU_LENGTHS = (50, 80, 500)


def model_of(weights: str | None, **options):
    import torch

    from videopainter.e2fgvi import E2FGVIConfig, E2FGVIModel

    if weights:
        return E2FGVIModel.from_pretrained(weights)
    torch.manual_seed(0)
    return E2FGVIModel(E2FGVIConfig(**options))


class ArrayClip:
    def __init__(self, frames, holes):
        self.frames, self.holes = frames, holes

    def __len__(self):
        return len(self.frames)

    def frame(self, i):
        return self.frames[i]

    def hole(self, i):
        return self.holes[i]


def cost(args) -> None:
    sys.path.insert(0, str(ROOT / "tests" / "parity"))
    import golden
    import numpy as np
    import torch

    from videopainter.e2fgvi.streaming import Settings

    torch.set_num_threads(1)
    _, tensors = golden.read_case(golden.OWN / "e2fgvi" / "pipeline_hq.safetensors")
    frames = tensors["frames"].numpy()
    width = frames.shape[2]
    clip = ArrayClip(frames, np.unpackbits(tensors["masks_dilated_bits"].numpy(), axis=-1)[..., :width] > 0)
    model = model_of(args.weights)
    before = peak_mb()
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(args.repeat):
        for reuse, runs in seconds.items():
            start = time.process_time()
            list(model.paint_video(clip, Settings(reuse=reuse)))
            runs.append((time.process_time() - start) / len(frames))
    print("| | CPU seconds a frame (best / worst of runs) |")
    print("|---|---|")
    print(f"| public code, recorded | {REFERENCE_SECONDS} |")
    for reuse, name in ((False, "this, every window anew"), (True, "this, features and flows reused")):
        runs = seconds[reuse]
        print(f"| {name} | {min(runs):.2f} / {max(runs):.2f} of {len(runs)} |")
    print(
        f"\nPeak memory {peak_mb():.0f} MB ({before:.0f} with the model alone); public code {REFERENCE_MB} MB."
    )


def reuse(args) -> None:
    from videopainter.e2fgvi.schedule import windows

    print("| frames | windows | frames encoded, every window anew | once each | factor | flows: factor |")
    print("|---|---|---|---|---|---|")
    for count in args.lengths:
        plan = list(windows(count))
        anew = sum(len(w.neighbours) + len(w.references) for w in plan)
        once = len({i for w in plan for i in (*w.neighbours, *w.references)})
        pairs = sum(len(w.neighbours) - 1 for w in plan)
        print(f"| {count} | {len(plan)} | {anew} | {once} | {anew / once:.2f} | {pairs / (count - 1):.2f} |")


def memory_one(args) -> None:
    """One clip in a process of its own; prints a line of JSON."""
    import torch

    from videopainter.e2fgvi import E2FGVIEngine

    torch.set_num_threads(1)
    options = {"num_layers": args.depth} if args.depth else {}
    engine = E2FGVIEngine(model=model_of(args.weights, **options), device="cpu", crop=False)
    before = peak_mb()

    def tell(done: int, count: int) -> None:
        if done % 20 == 0:
            print(f"{done} of {count} frames, peak so far {peak_mb():.0f} MB", file=sys.stderr, flush=True)

    seconds = paint_all(engine, args.frames, args.width, args.height, tell)
    print(json.dumps({"frames": args.frames, "before": before, "peak": peak_mb(), "seconds": seconds}))


def memory(args) -> None:
    size = f"{args.width} x {args.height}"
    print(f"| frames, {size} | peak of the process | above the loaded model | seconds a frame |")
    print("|---|---|---|---|")
    for count in args.lengths:
        command = [sys.executable, __file__, "memory-one", "--frames", str(count)]
        command += ["--width", str(args.width), "--height", str(args.height)]
        command += ["--weights", args.weights] if args.weights else []
        command += ["--depth", str(args.depth)] if args.depth else []
        # What is freed leaves the process at once: the figure is what is in use, not what the allocator holds back.
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)}
        found = json.loads(subprocess.check_output(command, text=True, env=environment).splitlines()[-1])
        above = found["peak"] - found["before"]
        seconds = found["seconds"] / count
        print(f"| {count} | {found['peak']:.0f} MB | {above:.0f} MB | {seconds:.2f} |", flush=True)


def gpu_table(args, device: str, sizes, lengths, precisions, **options) -> None:
    """Peak of what PyTorch has allocated on the device (on the CPU: of the process), and seconds a frame."""
    import torch

    from videopainter.e2fgvi import E2FGVIEngine

    cuda = device.startswith("cuda")
    heads = [f"{n} frames" for n in lengths]
    print(f"| size | precision | {' | '.join(heads)} |")
    print("|---|---|" + "---|" * len(heads))
    for width, height in sizes:
        for fp16 in precisions:
            engine = E2FGVIEngine(
                model=model_of(args.weights, **options), device=device, fp16=fp16, crop=False, resize_ratio=1
            )
            cells = []
            for count in lengths:
                if cuda:
                    torch.cuda.reset_peak_memory_stats()
                seconds = paint_all(engine, count, width, height) / count
                peak = torch.cuda.max_memory_allocated() / 2**30 if cuda else peak_mb() / 2**10
                cells.append(f"{peak:.2f} GB, {seconds:.3f} s")
            print(f"| {width} x {height} | {'fp16' if fp16 else 'fp32'} | {' | '.join(cells)} |", flush=True)
            del engine


def gpu(args) -> None:
    import torch

    if not torch.cuda.is_available():
        sys.exit("There is no GPU here; `smoke` runs the same code on the CPU.")
    gpu_table(args, "cuda", GPU_SIZES, GPU_LENGTHS, (False, True))


def smoke(args) -> None:
    tiny = {"num_layers": 2, "hidden_size": 32, "intermediate_size": 98, "num_heads": 2}
    gpu_table(args, "cpu", ((64, 48),), (4, 8), (False,), channels=32, groups=4, **tiny)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("cost", "reuse", "memory", "memory-one", "gpu", "smoke"))
    parser.add_argument("--weights", help="file or folder with weights (default: random ones)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of cost")
    parser.add_argument(
        "--lengths", type=int, nargs="+", default=[20, 80, 320], help="frames, for memory and reuse"
    )
    parser.add_argument("--width", type=int, default=320, help="for memory")
    parser.add_argument("--height", type=int, default=240, help="for memory")
    parser.add_argument("--frames", type=int, help="for memory-one")
    parser.add_argument(
        "--depth", type=int, help="transformer blocks, for memory: all need the same, one at a time"
    )
    args = parser.parse_args()
    if args.what != "memory-one":
        print(f"{machine()}\n\n`{' '.join(['benchmarks/e2fgvi.py', *sys.argv[1:]])}`\n", flush=True)
    globals()[args.what.replace("-", "_")](args)


if __name__ == "__main__":
    main()
