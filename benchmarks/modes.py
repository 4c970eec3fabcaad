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
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

VARIANTS = "fast,fast+compile,fast+first_block,balanced,low,low+first_block"
GIB = 2**30

SHARED = {
    "in_channels": 32,
    "use_rotary_positional_embeddings": True,
    "use_learned_positional_embeddings": True,
}
REAL = {
    "transformer": {"num_attention_heads": 48, "num_layers": 42, "sample_width": 90, "sample_height": 60},
    "branch": {"num_attention_heads": 48, "num_layers": 2, "sample_width": 90, "sample_height": 60},
    "vae": {},
    "text": {
        "d_model": 4096,
        "d_kv": 64,
        "d_ff": 10240,
        "num_layers": 24,
        "num_heads": 64,
        "vocab_size": 32128,
    },
}
_SMALL = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "text_embed_dim": 32,
    "time_embed_dim": 32,
    "max_text_seq_length": 16,
    "sample_width": 12,
    "sample_height": 8,
    "sample_frames": 9,
}
TINY = {
    "transformer": {**_SMALL, "num_layers": 4},
    "branch": {**_SMALL, "num_layers": 2},
    "vae": {
        "block_out_channels": (8, 8, 16, 16),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "sample_height": 96,
        "sample_width": 160,
    },
    "text": {"d_model": 32, "d_kv": 8, "d_ff": 37, "num_layers": 2, "num_heads": 4, "vocab_size": 128},
}


def build(sizes: dict, dtype):
    """(text encoder, pipeline without it), on the CPU, all weights random."""
    import torch
    from diffusers import AutoencoderKLCogVideoX, CogVideoXDPMScheduler
    from transformers import T5Config, T5EncoderModel

    from videopainter.diffusion import (
        VideoPainterBranchModel,
        VideoPainterPipeline,
        VideoPainterTransformer3DModel,
    )

    tile = torch.empty(2**20).uniform_(-0.02, 0.02).to(dtype)

    def random(make):
        with torch.device("meta"):
            network = make()
        network = network.to(dtype).to_empty(device="cpu").eval()
        for tensor in (*network.parameters(), *network.buffers()):
            flat = tensor.data.view(-1)
            for start in range(0, len(flat), len(tile)):
                part = flat[start : start + len(tile)]
                part.copy_(tile[: len(part)])
        return network

    config = T5Config(feed_forward_proj="gated-gelu", **sizes["text"])
    text = random(lambda: T5EncoderModel(config))
    pipe = VideoPainterPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=random(lambda: AutoencoderKLCogVideoX(**sizes["vae"])),
        transformer=random(lambda: VideoPainterTransformer3DModel(**SHARED, **sizes["transformer"])),
        scheduler=CogVideoXDPMScheduler(prediction_type="v_prediction", timestep_spacing="trailing"),
        branch=random(lambda: VideoPainterBranchModel(**SHARED, **sizes["branch"])),
    )
    pipe.set_progress_bar_config(disable=True)
    return text, pipe


def measure(variant: str, steps: int, tiny: bool, limit: float | None) -> dict:
    """One variant in this process."""
    from videopainter.diffusion.needs import set_environment

    set_environment()
    import numpy as np
    import torch

    from videopainter.diffusion import memory

    device = torch.device("cpu" if tiny else "cuda:0")
    mode, *extras = variant.split("+")
    gpu = device.type == "cuda"
    if gpu and limit:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit * GIB / total), device)
    text, pipe = build(TINY if tiny else REAL, torch.bfloat16 if gpu else torch.float32)
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
    with torch.no_grad(), memory.visiting(text, mode, device):
        ids = torch.ones(2, tokens, dtype=torch.long, device=device)
        embeds = text(ids)[0].float().cpu()
    del text
    memory.release(device)
    result = {"variant": variant, "text_seconds": round(time.perf_counter() - started, 2), "text_gib": peak()}

    memory.place(pipe, mode, device)
    memory.speed_up(pipe, "compile" in extras, "first_block" if "first_block" in extras else "none")
    scale = pipe.vae_scale_factor_spatial
    size = (config.sample_height * scale, config.sample_width * scale)
    video = np.random.default_rng(0).integers(0, 256, (config.sample_frames, *size, 3), np.uint8)
    masks = np.zeros(video.shape[:3], bool)
    masks[:, size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = True
    ends = []

    def on_step(pipe, step, timestep, tensors):
        if gpu:
            torch.cuda.synchronize()
        ends.append(time.perf_counter())
        return {}

    started = time.perf_counter()
    dtype = torch.bfloat16 if gpu else torch.float32
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
    name = platform.machine()
    if not tiny:
        import torch

        name = torch.cuda.get_device_name()
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
