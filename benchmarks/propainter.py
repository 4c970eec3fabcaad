#!/usr/bin/env python3
"""What ProPainter costs: seconds a frame and peak memory.

    python benchmarks/propainter.py cost      # CPU, one thread: the recorded case of 12 frames, 160 x 128
    python benchmarks/propainter.py memory    # CPU: peak of the process for 20, 80 and 320 frames, 320 x 240
    python benchmarks/propainter.py gpu       # GPU: memory and seconds by size, length and precision
    python benchmarks/propainter.py smoke     # the code of `gpu`, small and on the CPU

Weights are random unless --weights names a folder: neither time nor memory depends on them. Tables are printed in
Markdown; the ones that were kept are in `results/propainter.md`.
"""

import sys
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import engine_cost  # noqa: E402
from machine import peak_mb  # noqa: E402

# A frame: the public code on the same case, one thread (tests/parity/data/propainter).
REFERENCE_SECONDS = 2.9
GPU_SIZES = ((1280, 720), (720, 480), (640, 480), (320, 240))  # width, height
TINY = {
    "num_channels": 32,
    "deform_groups": 4,
    "num_hidden_layers": 2,
    "hidden_size": 32,
    "intermediate_size": 98,
    "num_attention_heads": 2,
}


def model_of(weights: str | None, **options):
    import torch

    from videopainter.propainter import ProPainterConfig, ProPainterModel, convert

    if weights:
        return convert.load(weights)
    torch.manual_seed(0)
    return ProPainterModel(ProPainterConfig(**options))


def engine_of(args, options, device: str, fp16: bool | None):
    """The engine; ``options``: of its network."""
    from videopainter.propainter import ProPainterEngine

    return ProPainterEngine(
        model=model_of(args.weights, **options),
        device=device,
        fp16=fp16,
        raft_iter=args.raft_iter,
        subvideo_length=args.subvideo_length,
    )


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
    def make(device: str, fp16: bool | None):
        engine = engine_of(args, {}, device, fp16)
        if args.depth:  # the other blocks are not run, but stay: what the weights take counts
            part = engine.model.inpaint_generator.transformers
            part.not_run, part.transformer = part.transformer[args.depth :], part.transformer[: args.depth]
        return engine

    engine_cost.memory_one(make, args)


def memory(args) -> None:
    engine_cost.memory(__file__, args)


def gpu(args) -> None:
    engine_cost.gpu(partial(engine_of, args, {}), GPU_SIZES, args.lengths)


def smoke(args) -> None:
    engine_cost.smoke(partial(engine_of, args, TINY))


COMMANDS = {"cost": cost, "memory": memory, "memory-one": memory_one, "gpu": gpu, "smoke": smoke}


def main() -> None:
    parser = engine_cost.build_parser(__doc__, tuple(COMMANDS))
    parser.add_argument(
        "--raft_iter", type=int, default=20, help="refinement steps of the flow; memory stays the same"
    )
    parser.add_argument("--subvideo_length", type=int, help="default: from the free memory")
    engine_cost.run(__file__, parser, COMMANDS)


if __name__ == "__main__":
    main()
