"""What several GPUs save: seconds a step of VideoPainter at its released size, with random weights.

    python benchmarks/parallel.py                                                   # one process
    torchrun --nproc_per_node 2 benchmarks/parallel.py --guidance
    torchrun --nproc_per_node 4 benchmarks/parallel.py --ulysses 2 --guidance
    torchrun --nproc_per_node 2 benchmarks/parallel.py --ulysses 2 --size tiny      # on CPUs, whether it runs

Prints a row of a table: processes, how the work is divided, seconds of a step, and MB of the first process.
"""

import argparse
import os
import time
from contextlib import nullcontext

import torch
from machine import machine, peak_mb
from random_videopainter import build, clip, prompt

from videopainter.diffusion.parallel import Parallelism, parallelize, processes_of_launcher


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--ulysses", type=int, default=1)
    parser.add_argument("--guidance", action="store_true")
    parser.add_argument("--size", default="real", choices=("tiny", "middle", "real"))
    parser.add_argument("--steps", type=int, default=4)
    args = parser.parse_args()
    launched = "RANK" in os.environ
    with processes_of_launcher() if launched else nullcontext(None) as device:
        device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        pipe = build(args.size, str(device), dtype)
        how = Parallelism(args.ulysses, args.guidance)
        if launched:
            parallelize(pipe.transformer, pipe.branch, how)
        times: list[float] = []

        def on_step(pipe, step, timestep, tensors):
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter())
            return {}

        frames = pipe.transformer.config.sample_frames
        video, masks = clip(pipe, frames)
        pipe(
            video=video,
            masks=masks,
            **prompt(pipe, str(device), dtype),
            num_inference_steps=args.steps,
            generator=torch.Generator().manual_seed(0),
            callback_on_step_end=on_step,
            output_type="latent",
        )
        step = (times[-1] - times[0]) / (len(times) - 1)
        memory = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else peak_mb()
        if int(os.environ.get("RANK", "0")) == 0:
            print("| processes | ulysses | guidance | s a step | MB | machine |\n|---|---|---|---|---|---|")
            print(
                f"| {how.processes} | {how.ulysses} | {how.guidance} | {step:.2f} | {memory:.0f} | {machine()} |"
            )


if __name__ == "__main__":
    main()
