"""VideoPainter's memory modes on random weights of the real size: seconds a step, seconds a window, peak memory.

    python benchmarks/modes.py --output benchmarks/results/modes.md
    python benchmarks/modes.py --frames 97 --id_pool            # two windows with ID resampling
    python benchmarks/modes.py --limit 12 --variants low        # as on a card of 12 GB
    python benchmarks/modes.py --limit foretold                 # no more than what `auto` takes the mode for

Speed and memory do not depend on what the weights are, so nothing has to be downloaded. Every variant runs in a
process of its own: the prompt through the text encoder, then windows of 49 frames at 480 x 720, without what
loading takes. A variant is a mode of `--memory`, perhaps with +compile or a cache (+first_block, +broadcast, +taylor).
`--tiny` tries the script itself, on small networks and the CPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from statistics import median

from machine import gpu_name, processor

VARIANTS = "fast,fast+compile,fast+first_block,balanced,low,low+first_block,minimum"
GIB = 2**30
CONTEXT = 0.5  # GiB that CUDA itself takes, which no tensor shows


class Peaks:
    """What a GPU's memory held at most in each stage, GiB; nothing is noted without one."""

    def __init__(self, gpu: bool):
        self.gpu, self.stages, self.reserved = gpu, {}, 0.0

    def passed(self, stage: str) -> None:
        """What was used since the last call was of this stage."""
        if self.gpu:
            import torch

            torch.cuda.synchronize()
            most = round(torch.cuda.max_memory_allocated() / GIB, 2)
            self.stages[stage] = max(most, self.stages.get(stage, 0.0))
            self.reserved = max(self.reserved, torch.cuda.max_memory_reserved() / GIB)
            torch.cuda.reset_peak_memory_stats()

    def text(self) -> str:
        return ", ".join(f"{stage} {most}" for stage, most in self.stages.items())


def measure(
    variant: str,
    steps: int,
    tiny: bool,
    limit: str | None,
    frames: int | None = None,
    id_pool: bool = False,
) -> dict:
    """One variant in this process. limit: GiB, or "foretold". frames: one window if None."""
    from videopainter.diffusion.requirements import set_environment

    set_environment()
    import torch
    from random_videopainter import build, clip, text_encoder

    from videopainter.diffusion import memory

    device = torch.device("cpu" if tiny else "cuda:0")
    mode, *extras = variant.split("+")
    gpu = device.type == "cuda"
    size, dtype = "tiny" if tiny else "real", torch.bfloat16 if gpu else torch.float32
    text, pipe = text_encoder(size, "cpu", dtype), build(size, "cpu", dtype)
    config = pipe.transformer.config
    tokens = config.max_text_seq_length

    cache = next((extra for extra in extras if extra in memory.CACHES), "none")
    count = frames or config.sample_frames
    video, masks = clip(pipe, count)
    windows = max(1, -(-(count - 1) // (config.sample_frames - 1)))
    work = memory.Work(float(masks.float().mean()), windows, id_pool, id_pool, cache)
    foretold = memory.bytes_needed(mode, work) / GIB
    if gpu and limit:
        most = (foretold - CONTEXT if limit == "foretold" else float(limit)) * GIB
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, most / total), device)
    peaks = Peaks(gpu)

    started = time.perf_counter()
    with torch.no_grad(), memory.temporarily_on_device(text, mode, device):
        ids = torch.ones(2, tokens, dtype=torch.long, device=device)
        embeds = text(ids)[0].float().cpu()
    del text
    memory.release(device)
    result = {"variant": variant, "text_seconds": round(time.perf_counter() - started, 2)}
    peaks.passed("prompt")

    memory.place(pipe, mode, device, cache)
    if "compile" in extras:
        memory.compile_blocks(pipe)
    ends: list[tuple[int, float]] = []
    begun: set[int] = set()

    def on_forward(*_):
        if pipe.current_window not in begun:  # the end of the window before, too
            peaks.passed("decode and encode" if begun else "encode")
            begun.add(pipe.current_window)

    def on_step(pipe, step, timestep, tensors):
        peaks.passed("denoise")
        ends.append((pipe.current_window, time.perf_counter()))
        return {}

    pipe.branch.register_forward_pre_hook(on_forward)
    started = time.perf_counter()
    parts = pipe.stream(
        video,
        masks,
        prompt_embeds=embeds[:1].to(dtype),
        negative_prompt_embeds=embeds[1:].to(dtype),
        max_sequence_length=tokens,
        num_inference_steps=steps,
        id_pool=id_pool,
        prev_clip_weight=0.5 if id_pool else 0.0,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
        callback_on_step_end=on_step,
    )
    made = sum(part.shape[1] for part in parts)
    if made != count:
        raise RuntimeError(f"{made} frames came back of {count}.")
    done = time.perf_counter()
    within = [b[1] - a[1] for a, b in zip(ends, ends[1:]) if a[0] == b[0]]  # between windows lies the VAE
    result["first_step_seconds"] = round(ends[0][1] - started, 2)
    result["step_seconds"] = round(median(within), 3)
    result["decode_seconds"] = round(done - ends[-1][1], 2)
    peaks.passed("decode")
    result |= {
        "tensors": peaks.text(),
        "reserved_gib": round(peaks.reserved, 2),
        "foretold_gib": round(foretold, 2),
    }
    return result


def machine(tiny: bool) -> str:
    """What this ran on, in words."""
    name = processor() if tiny else gpu_name()
    return f"{name}, PyTorch {metadata.version('torch')}, diffusers {metadata.version('diffusers')}"


def table(results: list[dict], where: str, command: str, steps: int) -> str:
    """The results as a page of Markdown."""
    lines = [
        "# VideoPainter's memory modes",
        "",
        where,
        "",
        f"`{command}`",
        "",
        f"Guidance, {steps} steps a window, random weights. A window of 50 steps takes the first step, 49 more and "
        "the decoding. GiB: of tensors at most, by stage; what PyTorch reserved for them in all stages; and the free "
        f"memory for which `auto` takes the mode, {CONTEXT} of it for CUDA itself.",
        "",
        "| mode | prompt, s | first step, s | a step, s | decoding, s | tensors | reserved | foretold |",
        "|---|---|---|---|---|---|---|---|",
    ]
    times = ("text_seconds", "first_step_seconds", "step_seconds", "decode_seconds")
    keys = (*times, "tensors", "reserved_gib", "foretold_gib")
    for result in results:
        if "error" in result:
            lines.append(f"| {result['variant']} | {result['error']} |" + " |" * 6)
        else:
            cells = (str(result[key]) for key in keys)
            lines.append(f"| {result['variant']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variants", default=VARIANTS, help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=6, help="2 or more (default: %(default)s)")
    parser.add_argument("--frames", type=int, help="(default: one window)")
    parser.add_argument(
        "--id_pool", action="store_true", help="ID resampling, and a look at the window before"
    )
    parser.add_argument(
        "--limit", metavar="GIB", help='use no more memory of the GPU than this, or than is "foretold"'
    )
    parser.add_argument("--tiny", action="store_true", help="small networks on the CPU, to try the script")
    parser.add_argument("--output", type=Path, help="a file for the table; it is printed in any case")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the variant that a process of ours measures
    args = parser.parse_args()
    if args.steps < 2:
        parser.error(f"--steps must be 2 or more, not {args.steps}")
    if args.one:
        print(json.dumps(measure(args.one, args.steps, args.tiny, args.limit, args.frames, args.id_pool)))
        return 0
    results = []
    for variant in args.variants.split(","):
        command = [sys.executable, __file__, "--one", variant, "--steps", str(args.steps)]
        command += ["--tiny"] * args.tiny + (["--limit", args.limit] if args.limit else [])
        command += ["--id_pool"] * args.id_pool + (["--frames", str(args.frames)] if args.frames else [])
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            results.append(json.loads(done.stdout.splitlines()[-1]))
        elif "OutOfMemoryError" in done.stderr:
            results.append({"variant": variant, "error": "out of memory"})
        else:
            sys.stderr.write(done.stderr)
            return 1
        print(results[-1], flush=True)
    command = " ".join(["python", "benchmarks/modes.py", *sys.argv[1:]])
    page = table(results, machine(args.tiny), command, args.steps)
    print(page)
    if args.output:
        args.output.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
