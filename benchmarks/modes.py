"""VideoPainter's memory modes on random weights of the real size: seconds a step, seconds a window, peak memory.

    python benchmarks/modes.py --output benchmarks/results/modes.md
    python benchmarks/modes.py --limit 12 --variants low        # as on a card of 12 GB

Speed and memory do not depend on what the weights are, so nothing has to be downloaded. Every variant runs in a
process of its own: the prompt through the text encoder, then one window of 49 frames at 480 x 720, without what
loading takes. A variant is a mode of `--memory`, perhaps with +compile or +first_block. `--tiny` tries the script
itself, on small networks and the CPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

from machine import gpu_name, processor

VARIANTS = "fast,fast+compile,fast+first_block,balanced,low,low+first_block,minimum"
GIB = 2**30


def measure(variant: str, steps: int, tiny: bool, limit: float | None) -> dict:
    """One variant in this process."""
    from videopainter.diffusion.requirements import set_environment

    set_environment()
    import torch
    from random_videopainter import build, clip, text_encoder

    from videopainter.diffusion import memory

    device = torch.device("cpu" if tiny else "cuda:0")
    mode, *extras = variant.split("+")
    gpu = device.type == "cuda"
    if gpu and limit:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit * GIB / total), device)
    size, dtype = "tiny" if tiny else "real", torch.bfloat16 if gpu else torch.float32
    text, pipe = text_encoder(size, "cpu", dtype), build(size, "cpu", dtype)
    config = pipe.transformer.config
    tokens = config.max_text_seq_length

    def peak() -> float | None:
        """GiB at most since the last call."""
        if not gpu:
            return None
        torch.cuda.synchronize()
        most = torch.cuda.max_memory_reserved() / GIB
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return round(most, 2)

    started = time.perf_counter()
    with torch.no_grad(), memory.temporarily_on_device(text, mode, device):
        ids = torch.ones(2, tokens, dtype=torch.long, device=device)
        embeds = text(ids)[0].float().cpu()
    del text
    memory.release(device)
    result = {"variant": variant, "text_seconds": round(time.perf_counter() - started, 2), "text_gib": peak()}

    memory.place(pipe, mode, device, "first_block" if "first_block" in extras else "none")
    if "compile" in extras:
        memory.compile_blocks(pipe)
    video, masks = clip(pipe, config.sample_frames)
    ends = []

    def on_step(pipe, step, timestep, tensors):
        if gpu:
            torch.cuda.synchronize()
        ends.append(time.perf_counter())
        return {}

    started = time.perf_counter()
    parts = pipe.stream(
        video,
        masks,
        prompt_embeds=embeds[:1].to(dtype),
        negative_prompt_embeds=embeds[1:].to(dtype),
        max_sequence_length=tokens,
        num_inference_steps=steps,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
        callback_on_step_end=on_step,
    )
    frames = sum(part.shape[1] for part in parts)
    if frames != config.sample_frames:
        raise RuntimeError(f"{frames} frames came back of {config.sample_frames}.")
    done = time.perf_counter()
    result["first_step_seconds"] = round(ends[0] - started, 2)
    result["step_seconds"] = round((ends[-1] - ends[0]) / (steps - 1), 3)
    result["decode_seconds"] = round(done - ends[-1], 2)
    result["peak_gib"] = peak()
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
        f"One window with guidance, {steps} steps, random weights. A window of 50 steps takes the first step, 49 more "
        "and the decoding. Memory is what PyTorch reserved at most, in GiB.",
        "",
        "| mode | prompt: seconds | prompt: GiB | first step, s | a step, s | decoding, s | GiB |",
        "|---|---|---|---|---|---|---|",
    ]
    keys = ("text_seconds", "text_gib", "first_step_seconds", "step_seconds", "decode_seconds", "peak_gib")
    for result in results:
        if "error" in result:
            lines.append(f"| {result['variant']} | {result['error']} |" + " |" * 5)
        else:
            cells = ("" if result[key] is None else str(result[key]) for key in keys)
            lines.append(f"| {result['variant']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variants", default=VARIANTS, help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=6, help="2 or more (default: %(default)s)")
    parser.add_argument("--limit", type=float, metavar="GIB", help="use no more memory of the GPU than this")
    parser.add_argument("--tiny", action="store_true", help="small networks on the CPU, to try the script")
    parser.add_argument("--output", type=Path, help="a file for the table; it is printed in any case")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # the variant that a process of ours measures
    args = parser.parse_args()
    if args.steps < 2:
        parser.error(f"--steps must be 2 or more, not {args.steps}")
    if args.one:
        print(json.dumps(measure(args.one, args.steps, args.tiny, args.limit)))
        return 0
    results = []
    for variant in args.variants.split(","):
        command = [sys.executable, __file__, "--one", variant, "--steps", str(args.steps)]
        command += ["--tiny"] * args.tiny + (["--limit", str(args.limit)] if args.limit else [])
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
