#!/usr/bin/env python3
"""What ProPainter costs: seconds a frame and peak memory.

    python benchmarks/propainter.py cost      # CPU, one thread: the recorded case of 12 frames, 160 x 128
    python benchmarks/propainter.py memory    # CPU: peak of the process for 20, 80 and 320 frames, 320 x 240
    python benchmarks/propainter.py gpu       # GPU: memory and seconds by size, length and precision
    python benchmarks/propainter.py smoke     # the code of `gpu`, small and on the CPU

Weights are random unless --weights names a folder: neither time nor memory depends on them. Tables are printed in
Markdown; the ones that were kept are in `results/propainter.md`.
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

REFERENCE_SECONDS = (
    2.9  # a frame: the public code on the same case, one thread (tests/parity/data/propainter)
)
GPU_SIZES = ((1280, 720), (720, 480), (640, 480), (320, 240))  # width, height
GPU_LENGTHS = (50, 80, 500)


def model_of(weights: str | None, **options):
    import torch

    from videopainter.propainter import ProPainterConfig, ProPainterModel, convert

    if weights:
        return convert.load(weights)
    torch.manual_seed(0)
    return ProPainterModel(ProPainterConfig(**options))


def cost(args) -> None:
    sys.path.insert(0, str(ROOT / "tests" / "parity"))
    import golden
    import torch

    from videopainter.propainter import ProPainterVideoProcessor, verify
    from videopainter.propainter.modeling import TensorClip

    torch.set_num_threads(1)
    _, tensors = golden.read_case(golden.OWN / "propainter" / "pipeline_default.safetensors")
    frames = list(tensors["frames"].numpy())
    masks = list(verify.bits(tensors["masks_bits"], frames[0].shape[1]).numpy() > 0)
    inputs = ProPainterVideoProcessor()(frames, masks=masks, return_tensors="pt")
    model = model_of(args.weights)
    before = peak_mb()
    runs = []
    for _ in range(args.repeat):
        start = time.process_time()
        list(model.paint(TensorClip(*inputs.values())))
        runs.append((time.process_time() - start) / len(frames))
    print("| | CPU seconds a frame (best / worst of runs) | peak memory |")
    print("|---|---|---|")
    print(f"| public code, recorded | {REFERENCE_SECONDS} | 1196 MB |")
    memory_cell = f"{peak_mb():.0f} MB, {before:.0f} with the model alone"
    print(f"| this | {min(runs):.2f} / {max(runs):.2f} of {len(runs)} | {memory_cell} |")


def memory_one(args) -> None:
    """One clip in a process of its own; prints a line of JSON."""
    import torch

    from videopainter.propainter import ProPainterEngine

    torch.set_num_threads(1)
    engine = ProPainterEngine(
        model=model_of(args.weights),
        device="cpu",
        raft_iter=args.raft_iter,
        subvideo_length=args.subvideo_length,
    )
    if args.depth:  # the other blocks are not run, but stay: what the weights take counts
        part = engine.model.inpaint_generator.transformers
        part.not_run, part.transformer = part.transformer[args.depth :], part.transformer[: args.depth]
    before = peak_mb()

    def tell(done: int, count: int) -> None:
        if done % 20 == 0:
            print(f"{done} of {count} frames, peak so far {peak_mb():.0f} MB", file=sys.stderr, flush=True)

    seconds = paint_all(engine, args.frames, args.width, args.height, tell)
    print(json.dumps({"frames": args.frames, "before": before, "peak": peak_mb(), "seconds": seconds}))


def memory(args) -> None:
    print(
        f"| frames, {args.width} x {args.height} | peak of the process | above the loaded model | seconds a frame |"
    )
    print("|---|---|---|---|")
    for count in args.lengths:
        command = [
            sys.executable,
            __file__,
            "memory-one",
            "--frames",
            str(count),
            "--raft_iter",
            str(args.raft_iter),
        ]
        command += ["--width", str(args.width), "--height", str(args.height)]
        command += ["--subvideo_length", str(args.subvideo_length)] if args.subvideo_length else []
        command += ["--weights", args.weights] if args.weights else []
        command += ["--depth", str(args.depth)] if args.depth else []
        # What is freed leaves the process at once: the figure is what is in use, not what the allocator holds back.
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**20)}
        found = json.loads(subprocess.check_output(command, text=True, env=environment).splitlines()[-1])
        above = found["peak"] - found["before"]
        print(
            f"| {count} | {found['peak']:.0f} MB | {above:.0f} MB | {found['seconds'] / count:.2f} |",
            flush=True,
        )


def gpu_table(args, device: str, sizes, lengths, precisions, **options) -> None:
    """Peak of what PyTorch has allocated on the device (on the CPU: of the process), and seconds a frame."""
    import torch

    from videopainter.propainter import ProPainterEngine

    cuda = device.startswith("cuda")
    heads = [f"{n} frames" for n in lengths]
    print(f"| size | precision | {' | '.join(heads)} |")
    print("|---|---|" + "---|" * len(heads))
    for width, height in sizes:
        for fp16 in precisions:
            engine = ProPainterEngine(
                model=model_of(args.weights, **options),
                device=device,
                fp16=fp16,
                subvideo_length=args.subvideo_length,
                raft_iter=args.raft_iter,
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
    tiny = {"num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 98, "num_attention_heads": 2}
    gpu_table(args, "cpu", ((64, 48),), (4, 8), (False,), num_channels=32, deform_groups=4, **tiny)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("cost", "memory", "memory-one", "gpu", "smoke"))
    parser.add_argument("--weights", help="folder with weights (default: random ones)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of cost")
    parser.add_argument("--lengths", type=int, nargs="+", default=[20, 80, 320], help="frames, for memory")
    parser.add_argument("--width", type=int, default=320, help="for memory")
    parser.add_argument("--height", type=int, default=240, help="for memory")
    parser.add_argument("--frames", type=int, help="for memory-one")
    parser.add_argument(
        "--raft_iter", type=int, default=20, help="refinement steps of the flow; memory stays the same"
    )
    parser.add_argument(
        "--depth", type=int, help="transformer blocks, for memory: all need the same, one at a time"
    )
    parser.add_argument("--subvideo_length", type=int, help="default: from the free memory")
    args = parser.parse_args()
    if args.what != "memory-one":
        print(f"{machine()}\n\n`{' '.join(['benchmarks/propainter.py', *sys.argv[1:]])}`\n", flush=True)
    globals()[args.what.replace("-", "_")](args)


if __name__ == "__main__":
    main()
