"""What the ID pool holds, and what VideoPainter's pipeline needs at its peak, with random weights.

    python benchmarks/diffusion_memory.py                               # CPU, middle size
    python benchmarks/diffusion_memory.py --device cuda --size real     # a GPU, the released size, bfloat16

Every row is a process of its own. "reference pool" keeps the states of all tokens at every step, as the published
code does; "our pool" keeps those of the hole, at the last step of a window that has a successor. The formula for
the reference is blocks x 2 (guidance) x tokens x width x bytes a step, and three times that at the peak: the
window before, the step before, and the step in work.
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

from machine import gpu_name, processor

MODES = ("plain", "model offload", "group offload")
HEADER = (
    "| frames | mode | ID pool | tiling | pool held, MB | formula, MB | peak above start, MB | s a step |\n"
    "|---|---|---|---|---|---|---|---|"
)


def configurations(device: str, size: str, frames: list[int]) -> list[dict]:
    """What to measure: pools on the CPU; on a GPU also offloading and tiling."""
    rows, tiling = [], size != "tiny"  # too small to be cut
    for count in frames:
        for pool in ("none", "reference", "ours"):
            rows.append({"frames": count, "mode": "plain", "pool": pool, "tiling": tiling})
        if device == "cuda":
            rows.append({"frames": count, "mode": "plain", "pool": "ours", "tiling": False})
            for mode in MODES[1:]:
                rows += [
                    {"frames": count, "mode": mode, "pool": p, "tiling": tiling} for p in ("none", "ours")
                ]
    return rows


def probe(size: str, device: str, frames: int, mode: str, pool: str, tiling: bool, steps: int) -> dict:
    """Run one configuration in this process."""
    import psutil
    import torch
    from random_videopainter import build, clip, prompt

    from videopainter.diffusion import VideoPainterPipeline

    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    home = device if mode == "plain" else "cpu"
    held, now = [0], {"pool": 0, "step": 0}

    class Pools(VideoPainterPipeline):
        """Counts what is held; for the reference's way, everything at every step."""

        def denoise_window(self, *args, id_pool=None, **kwargs):
            now["pool"] = id_pool.nbytes if id_pool is not None else 0
            held[0] = max(held[0], now["pool"])
            return super().denoise_window(*args, id_pool=id_pool, **kwargs)

        def choose_pool_tokens(self, window, *args):
            if pool == "reference":
                return torch.arange(everything, device=window.mask.device)
            return super().choose_pool_tokens(window, *args)

    pipe = Pools(**build(size, home, dtype).components)
    pipe.set_progress_bar_config(disable=True)
    if tiling:
        pipe.vae.enable_tiling()
    if mode == "model offload":
        pipe.enable_model_cpu_offload(device=device)
    elif mode == "group offload":
        pipe.transformer.enable_group_offload(
            torch.device(device), torch.device("cpu"), "leaf_level", use_stream=True
        )
        pipe.branch.to(device)
        pipe.vae.to(device)

    config = pipe.transformer.config
    tokens = ((config.sample_frames - 1) // 4 + 1) * (config.sample_height // 2) * (config.sample_width // 2)
    everything = config.max_text_seq_length + tokens
    forward, kept = pipe.transformer.forward, []

    def counting(*args, **kwargs):
        asked = kwargs.get("collect_tokens")
        if pool == "reference":
            kwargs["collect_tokens"] = torch.arange(everything, device=kwargs["hidden_states"].device)
        output = forward(*args, **kwargs)
        if len(output) == 2:
            step = sum(states.nbytes for states in output[1])
            held[0] = max(held[0], now["pool"] + now["step"] + step)
            if pool == "reference":
                kept[:] = [output[1]]  # until the next step has its own
                now["step"] = step
        return output if asked is not None or len(output) == 1 else output[:1]

    pipe.transformer.forward = counting

    stamps, process, done = [], psutil.Process(), threading.Event()
    peak = [0]

    def watch():
        while not done.wait(0.01):
            peak[0] = max(peak[0], process.memory_info().rss)

    cuda = device == "cuda"
    start = 0 if cuda else process.memory_info().rss
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    video, masks = clip(pipe, frames)

    def stamp(*_):
        if cuda:
            torch.cuda.synchronize()
        stamps.append((pipe.current_window, time.perf_counter()))

    for _ in pipe.stream(
        video,
        masks,
        **prompt(pipe, device, dtype),
        num_inference_steps=steps,
        id_pool=pool != "none",
        prev_clip_weight=0.0 if pool == "none" else 0.5,
        output_type="pt",
        generator=torch.Generator().manual_seed(0),
        callback_on_step_end=stamp,
    ):
        pass
    done.set()
    watcher.join()
    # Within a window only: between windows lies the VAE.
    times = [b[1] - a[1] for a, b in zip(stamps, stamps[1:]) if a[0] == b[0]]
    bytes_each = torch.finfo(dtype).bits // 8
    width = config.num_attention_heads * config.attention_head_dim
    a_step = config.num_layers * 2 * everything * width * bytes_each
    return {
        "held_mb": held[0] / 2**20,
        "formula_mb": {"none": 0, "reference": (3 if pipe.num_windows > 1 else 2) * a_step / 2**20}.get(pool),
        "peak_mb": (torch.cuda.max_memory_allocated() if cuda else peak[0] - start) / 2**20,
        "seconds": sorted(times)[len(times) // 2] if times else None,
    }


def line(row: dict) -> str:
    formula = "" if row["formula_mb"] is None else f"{row['formula_mb']:,.0f}"
    seconds = "" if row["seconds"] is None else f"{row['seconds']:.2f}"
    return (
        f"| {row['frames']} | {row['mode']} | {row['pool']} | {'yes' if row['tiling'] else 'no'} |"
        f" {row['held_mb']:,.0f} | {formula} | {row['peak_mb']:,.0f} | {seconds} |"
    )


def ratios(rows: list[dict]) -> list[str]:
    """Our pool against the reference's, from rows that differ in nothing else."""
    out = []
    plain = {(r["frames"], r["pool"]): r for r in reversed(rows) if r["mode"] == "plain"}
    for frames in sorted({frames for frames, _ in plain}):
        ours, theirs = plain.get((frames, "ours")), plain.get((frames, "reference"))
        if ours and theirs and theirs["held_mb"]:
            out.append(
                f"- {frames} frames: the pool holds {ours['held_mb'] / theirs['held_mb']:.2f} of the reference's,"
                f" the peak is {ours['peak_mb'] / theirs['peak_mb']:.2f} of it"
            )
    return out


def machine(device: str) -> str:
    import torch

    if device == "cuda":
        return f"{gpu_name()}, torch {torch.__version__}, bfloat16"
    return f"{processor()}, torch {torch.__version__}, float32, {torch.get_num_threads()} threads"


def main(arguments: list[str] | None = None) -> list[dict]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--size", default="middle", choices=("tiny", "middle", "real"))
    parser.add_argument("--frames", help="by comma; one window and two by default")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--output", type=Path, help="write the table here, and the numbers beside it as JSON")
    parser.add_argument("--probe", help=argparse.SUPPRESS)
    args = parser.parse_args(arguments)
    if args.probe:
        print(json.dumps(probe(args.size, args.device, steps=args.steps, **json.loads(args.probe))))
        return []
    from random_videopainter import SIZES

    window = SIZES[args.size]["networks"].get("sample_frames", 49)
    frames = [int(n) for n in args.frames.split(",")] if args.frames else [window, 2 * window - 1]
    print(HEADER)
    rows = []
    for configuration in configurations(args.device, args.size, frames):
        command = [sys.executable, __file__, "--device", args.device, "--size", args.size]
        command += ["--steps", str(args.steps), "--probe", json.dumps(configuration)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise SystemExit(f"{configuration} failed:\n{result.stderr}")
        rows.append({**configuration, **json.loads(result.stdout.splitlines()[-1])})
        print(line(rows[-1]), flush=True)
    summary = ratios(rows)
    print("\n".join(summary))
    if args.output:
        given = " ".join(["python benchmarks/diffusion_memory.py", *(arguments or sys.argv[1:])])
        text = [
            f"# VideoPainter: memory\n\n{machine(args.device)}\n\n`{given}`\n",
            HEADER,
            *map(line, rows),
            "",
        ]
        args.output.write_text("\n".join([*text, *summary]) + "\n")
        args.output.with_suffix(".json").write_text(json.dumps({"rows": rows}, indent=1))
    return rows


if __name__ == "__main__":
    main()
