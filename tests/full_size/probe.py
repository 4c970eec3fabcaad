"""Tiny networks on the fake GPU, in a process of its own: `python probe.py NAME` prints what it found as JSON."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

import fake_gpu  # noqa: E402
from fake_gpu import DEVICE  # noqa: E402

fake_gpu.pretend()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from full_size import build_pipeline  # noqa: E402
from PIL import Image  # noqa: E402
from random_videopainter import prompt  # noqa: E402

from videopainter.diffusion import memory  # noqa: E402

FRAMES, SIZE = 9, (64, 96)


def tiny(gpu, mode="fast", cache="none"):
    """A tiny pipeline in bfloat16, placed."""
    pipe = build_pipeline(size="tiny")
    memory.place(pipe, mode, DEVICE, cache)
    return pipe


def call(pipe, video, frames=FRAMES, **changes):
    masks = np.zeros((frames, *SIZE), bool)
    masks[:, 16:48, 16:64] = True
    given = {
        "num_inference_steps": 2,
        "output_type": "pt",
        "generator": torch.Generator().manual_seed(0),
        "id_pool": True,
        "prev_clip_weight": 0.5,
        **prompt(pipe, "cpu", torch.bfloat16),
    }
    return list(pipe.stream(video, changes.pop("masks", masks), **{**given, **changes}))


def inputs(gpu) -> dict:
    """Every public form of a video and of the other tensors, and what comes out of it."""
    pipe = tiny(gpu)
    array = np.zeros((FRAMES, *SIZE, 3), np.uint8)
    mask = np.zeros((FRAMES, *SIZE), np.uint8)
    mask[:, 16:48, 16:64] = 255
    floats, integers = torch.zeros(FRAMES, 3, *SIZE), torch.zeros(FRAMES, 3, *SIZE, dtype=torch.uint8)
    embeds = prompt(pipe, DEVICE, torch.bfloat16)
    forms = {
        "images": ([Image.fromarray(frame) for frame in array], {}),
        "list of arrays": (list(array), {}),
        "uint8 array": (array, {}),
        "float array": (array.astype(np.float32), {}),
        "float tensor": (floats, {}),
        "float tensor on cuda": (floats.to(DEVICE), {}),
        "list of float tensors on cuda": (list(floats.to(DEVICE)), {}),
        "uint8 tensor": (integers, {}),
        "uint8 tensor on cuda": (integers.to(DEVICE), {}),
        "generator on cuda": (array, {"generator": fake_gpu.FakeGenerator()}),
        "embeds on cuda": (array, embeds),
        "image tensor on cuda": (floats, {"image": torch.zeros(1, 3, *SIZE, device=DEVICE)}),
        "image": (floats.to(DEVICE), {"image": Image.fromarray(array[0])}),
        "latents on cpu": (array, {"latents": torch.zeros(1, 3, 16, 8, 12)}),
        "latents on cuda": (array, {"latents": torch.zeros(1, 3, 16, 8, 12, device=DEVICE)}),
    }
    found = {}
    for name, (video, changes) in forms.items():
        try:
            parts = call(pipe, video, **changes)
            found[name] = [list(part.shape) for part in parts]
        except Exception as error:  # noqa: BLE001  what went wrong is what the test shows
            found[name] = f"{type(error).__name__}: {error}"
    return found


def first_block(gpu) -> dict:
    """FLOPs of four steps in each mode, with and without the cache, when every step is like the one before."""
    memory.modes.CACHE_THRESHOLD = 1e9
    found = {}
    for mode in memory.MODES:
        for cache in ("none", "first_block"):
            with gpu.stage(f"{mode} {cache}") as counts:
                pipe = tiny(gpu, mode, cache)
                call(pipe, np.zeros((FRAMES, *SIZE, 3), np.uint8), num_inference_steps=4)
            found[f"{mode} {cache}"] = counts.attention.total()
    return found


def loop(gpu) -> dict:
    """What the host waits for and copies in the denoising loop of three windows, by mode."""
    found = {}
    for mode in memory.MODES:
        pipe = tiny(gpu, mode)
        step = type(pipe.transformer).forward
        with gpu.stage(f"call {mode}") as counts:
            call(pipe, np.zeros((25, *SIZE, 3), np.uint8), frames=25)
        assert step is type(pipe.transformer).forward
        found[mode] = {"waits": dict(counts.waits), "left": gpu.live}
        del pipe
    return found


def main() -> None:
    gpu = fake_gpu.FakeGPU()
    with gpu.running(), torch.no_grad():
        found = {"inputs": inputs, "first_block": first_block, "loop": loop}[sys.argv[1]](gpu)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
