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

import sys
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import engine_cost  # noqa: E402
from machine import peak_mb  # noqa: E402

# A frame: the public code on the same case, one thread (tests/parity/data/e2fgvi/pipeline_hq.json).
REFERENCE_SECONDS, REFERENCE_MB = 2.35, 1199
GPU_SIZES = ((1280, 720), (720, 480), (432, 240))  # width, height
TINY = {
    "channels": 32,
    "groups": 4,
    "num_layers": 2,
    "hidden_size": 32,
    "intermediate_size": 98,
    "num_heads": 2,
}


def model_of(weights: str | None, **options):
    import torch

    from videopainter.e2fgvi import E2FGVIConfig, E2FGVIModel

    if weights:
        return E2FGVIModel.from_pretrained(weights)
    torch.manual_seed(0)
    return E2FGVIModel(E2FGVIConfig(**options))


def engine_of(args, options, device: str, fp16: bool | None):
    """The engine at the full size; ``options``: of its network."""
    from videopainter.e2fgvi import E2FGVIEngine

    model = model_of(args.weights, **options)
    return E2FGVIEngine(model=model, device=device, fp16=fp16, crop=False, resize_ratio=1)


def cost(args) -> None:
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "parity")]
    import golden
    import numpy as np
    import torch
    from clips import ArrayClip

    torch.set_num_threads(1)
    _, tensors = golden.read_case(golden.OWN / "e2fgvi" / "pipeline_hq.safetensors")
    frames = tensors["frames"].numpy()
    width = frames.shape[2]
    masks = np.unpackbits(tensors["masks_dilated_bits"].numpy(), axis=-1)[..., :width] > 0
    clip = ArrayClip(frames, masks)
    model = model_of(args.weights)
    before = peak_mb()
    methods = {
        "this, every window anew": lambda: every_window_anew(model, frames, masks),
        "this, features and flows reused": lambda: list(model.paint_video(clip)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(args.repeat):
        for name, method in methods.items():
            start = time.process_time()
            method()
            seconds[name].append((time.process_time() - start) / len(frames))
    print("| | CPU seconds a frame (best / worst of runs) |")
    print("|---|---|")
    print(f"| public code, recorded | {REFERENCE_SECONDS} |")
    for name, runs in seconds.items():
        print(f"| {name} | {min(runs):.2f} / {max(runs):.2f} of {len(runs)} |")
    print(
        f"\nPeak memory {peak_mb():.0f} MB ({before:.0f} with the model alone); public code {REFERENCE_MB} MB."
    )


def every_window_anew(model, frames, masks) -> None:
    """As the published script does: everything that a window sees goes through all networks, every time."""
    import numpy as np
    import torch

    from videopainter.e2fgvi.schedule import windows
    from videopainter.e2fgvi.streaming import mirror

    size = frames.shape[1:3]
    rows, columns = (mirror(n, m) for n, m in zip(size, model.config.network_size(*size)))
    masked = (frames.astype(np.float32) / 127.5 - 1) * ~masks[..., None]
    masked = torch.from_numpy(masked[:, rows][:, :, columns]).permute(0, 3, 1, 2)
    with torch.inference_mode():
        for window in windows(len(frames)):
            model(masked[[*window.neighbours, *window.references]], len(window.neighbours))


def reuse(args) -> None:
    from videopainter.e2fgvi.schedule import windows

    print("| frames | windows | frames encoded, every window anew | once each | factor | flows: factor |")
    print("|---|---|---|---|---|---|")
    for count in args.lengths or engine_cost.LENGTHS:
        plan = list(windows(count))
        anew = sum(len(w.neighbours) + len(w.references) for w in plan)
        once = len({i for w in plan for i in (*w.neighbours, *w.references)})
        pairs = sum(len(w.neighbours) - 1 for w in plan)
        print(f"| {count} | {len(plan)} | {anew} | {once} | {anew / once:.2f} | {pairs / (count - 1):.2f} |")


def memory_one(args) -> None:
    options = {"num_layers": args.depth} if args.depth else {}
    engine_cost.memory_one(partial(engine_of, args, options), args)


def memory(args) -> None:
    engine_cost.memory(__file__, args)


def gpu(args) -> None:
    engine_cost.gpu(partial(engine_of, args, {}), GPU_SIZES, args.lengths)


def smoke(args) -> None:
    engine_cost.smoke(partial(engine_of, args, TINY))


COMMANDS = {
    "cost": cost,
    "reuse": reuse,
    "memory": memory,
    "memory-one": memory_one,
    "gpu": gpu,
    "smoke": smoke,
}

if __name__ == "__main__":
    engine_cost.run(__file__, engine_cost.build_parser(__doc__, tuple(COMMANDS)), COMMANDS)
