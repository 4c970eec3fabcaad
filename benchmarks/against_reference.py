"""Our VideoPainter and the published implementation, side by side on a CPU: time, memory and result of the same call.

    python benchmarks/against_reference.py --reference CHECKOUT --python ITS_PYTHON [--output FILE.md]

CHECKOUT is a checkout of github.com/TencentARC/VideoPainter, whose `diffusers/src` is the fork that it runs on, and
ITS_PYTHON a Python that can import that fork (PyTorch, transformers 4.46, huggingface_hub 0.26). Both sides get the
same random weights (8 blocks of width 640, and 2 in the branch), the same 17 frames of 240 x 368 and the same prompt.
Every call is a process of its own, the two sides run at the same time, and seconds are those of the processor.

`check` calls ours with `match_reference`, and compares frames. The other cases call both as a user would.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

FRAMES, SIZE = 17, (240, 368)
SHARED = {
    "num_attention_heads": 10,
    "attention_head_dim": 64,
    "in_channels": 32,
    "out_channels": 16,
    "time_embed_dim": 512,
    "text_embed_dim": 4096,
    "sample_width": SIZE[1] // 8,
    "sample_height": SIZE[0] // 8,
    "sample_frames": FRAMES,
    "use_rotary_positional_embeddings": True,
    "use_learned_positional_embeddings": True,
}
VAE = {
    "block_out_channels": (16, 32, 32, 64),
    "layers_per_block": 2,
    "norm_num_groups": 8,
    "sample_height": SIZE[0],
    "sample_width": SIZE[1],
}
SCHEDULER = {"prediction_type": "v_prediction", "timestep_spacing": "trailing"}
CASES = {
    "check": {"windows": 2, "pool": True, "check": True},
    "one window": {"windows": 1, "pool": False, "check": False},
    "two windows, ID pool": {"windows": 2, "pool": True, "check": False},
}
WANTED = {"one window": 0.8, "two windows, ID pool": 0.65}  # of the published code's time
WANTED_MEMORY = 0.8
HEADER = (
    "| case | side | seconds | encode | branch | transformer | decode | peak of the call, MB | with weights, MB |\n"
    + "|---" * 9
    + "|"
)


# --- what both sides get --------------------------------------------------------------------------------------------


def prepare(folder: Path) -> None:
    """Random weights, frames, masks and text embeddings, as files."""
    import torch
    from diffusers import AutoencoderKLCogVideoX
    from safetensors.torch import save_file

    from videopainter.diffusion import VideoPainterBranchModel, VideoPainterTransformer3DModel

    torch.manual_seed(0)
    networks = {
        "vae": AutoencoderKLCogVideoX(**VAE),
        "transformer": VideoPainterTransformer3DModel(num_layers=8, **SHARED),
        "branch": VideoPainterBranchModel(num_layers=2, **SHARED),
    }
    for name, network in networks.items():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point() and not tensor.any():  # layers that training begins at zero
                tensor.normal_(std=0.02)
        save_file(
            {key: tensor.contiguous() for key, tensor in network.state_dict().items()},
            folder / f"{name}.safetensors",
        )
    length, (height, width) = 2 * FRAMES - 1, SIZE
    rows, columns = torch.linspace(0, 6, height)[:, None], torch.linspace(0, 9, width)[None]
    shown = [(torch.sin(rows + i / 9) * torch.cos(columns - i / 7) + 1) / 2 for i in range(length)]
    video = (torch.stack(shown)[..., None] * torch.tensor([255.0, 220.0, 180.0])).to(torch.uint8)
    masks = torch.zeros(length, height, width, dtype=torch.uint8)
    for i in range(length):  # about 22 % of the picture, and it moves
        masks[i, 48 : 48 + 112, 80 + 2 * i : 80 + 2 * i + 176] = 255
    embeds = torch.randn(2, 226, SHARED["text_embed_dim"])
    save_file({"video": video, "masks": masks, "embeds": embeds}, folder / "inputs.safetensors")


def pictures(folder: Path, windows: int) -> tuple[list, list, list]:
    """(frames, masked frames, masks) as PIL images, as the published script reads them."""
    import numpy as np
    from PIL import Image
    from safetensors.numpy import load_file

    given, length = load_file(folder / "inputs.safetensors"), windows * (FRAMES - 1) + 1
    video, masks = given["video"][:length], given["masks"][:length]
    masked = np.where(masks[..., None] > 0, 0, video).astype(np.uint8)
    as_images = [[Image.fromarray(one) for one in frames] for frames in (video, masked)]
    return *as_images, [Image.fromarray(mask).convert("RGB") for mask in masks]


# --- one call, in a process of its own ------------------------------------------------------------------------------


def theirs(folder: Path, case: dict, steps: int):
    """(pipeline, its call) of the published code; imports nothing of ours."""
    from diffusers import (
        AutoencoderKLCogVideoX,
        CogvideoXBranchModel,
        CogVideoXDPMScheduler,
        CogVideoXI2VDualInpaintAnyLPipeline,
        CogVideoXTransformer3DModel,
    )

    resample = {"id_pool_resample_learnable": case["pool"]}
    networks = {
        "vae": AutoencoderKLCogVideoX(**VAE),
        "transformer": CogVideoXTransformer3DModel(num_layers=8, **SHARED, **resample),
        "branch": CogvideoXBranchModel(num_layers=2, **SHARED),
    }
    pipe = CogVideoXI2VDualInpaintAnyLPipeline(
        tokenizer=None,
        text_encoder=None,
        scheduler=CogVideoXDPMScheduler(**SCHEDULER),
        **loaded(folder, networks),
    )
    _, masked, masks = pictures(folder, case["windows"])
    size = {"height": SIZE[0], "width": SIZE[1], "num_frames": FRAMES, "stride": FRAMES - 1}
    return pipe, {
        "video": masked,
        "masks": masks,
        "image": masked[0],
        **size,
        **shared_arguments(folder, case, steps),
    }


def ours(folder: Path, case: dict, steps: int):
    """(pipeline, its call) of this project."""
    from diffusers import AutoencoderKLCogVideoX, CogVideoXDPMScheduler

    from videopainter.diffusion import (
        VideoPainterBranchModel,
        VideoPainterPipeline,
        VideoPainterTransformer3DModel,
    )

    networks = {
        "vae": AutoencoderKLCogVideoX(**VAE),
        "transformer": VideoPainterTransformer3DModel(num_layers=8, **SHARED),
        "branch": VideoPainterBranchModel(num_layers=2, **SHARED),
    }
    pipe = VideoPainterPipeline(
        tokenizer=None,
        text_encoder=None,
        scheduler=CogVideoXDPMScheduler(**SCHEDULER),
        **loaded(folder, networks),
    )
    _, masked, masks = pictures(folder, case["windows"])
    own = {"window": FRAMES, "overlap": 1, "first_frame_gt": False, "match_reference": case["check"]}
    return pipe, {
        "video": masked,
        "masks": masks,
        "image": masked[0],
        **own,
        **shared_arguments(folder, case, steps),
    }


def loaded(folder: Path, networks: dict) -> dict:
    from safetensors.torch import load_file

    for name, network in networks.items():
        network.load_state_dict(load_file(folder / f"{name}.safetensors"))
        network.eval().requires_grad_(False)
    return networks


def shared_arguments(folder: Path, case: dict, steps: int) -> dict:
    import torch
    from safetensors.torch import load_file

    embeds = load_file(folder / "inputs.safetensors")["embeds"]
    return {
        "prompt_embeds": embeds[:1],
        "negative_prompt_embeds": embeds[1:],
        "num_inference_steps": steps,
        "use_dynamic_cfg": True,
        "guidance_scale": 6.0,
        "generator": torch.Generator().manual_seed(0),
        "replace_gt": True,
        "mask_add": True,
        "prev_clip_weight": 0.5 if case["pool"] else 0.0,
        "id_pool_resample_learnable": case["pool"],
        "output_type": "np",
    }


def work(side: str, folder: Path, case: dict, steps: int) -> dict:
    """Make the call, and say what it took."""
    import numpy as np

    pipe, call = {"ours": ours, "theirs": theirs}[side](folder, case, steps)
    pipe.set_progress_bar_config(disable=True)
    spent: dict[str, float] = {}
    watched = {"decode_latents": (pipe, "decode"), "prepare_latents": (pipe, "encode")}
    if side == "theirs":
        watched["prepare_mask_latents"] = (pipe, "encode")
    for method, (owner, stage) in watched.items():
        setattr(owner, method, timed(getattr(owner, method), stage, spent))
    for stage in ("branch", "transformer"):
        network = getattr(pipe, stage)
        network.forward = timed(network.forward, stage, spent)
    before = forget_peak()
    begin = time.process_time()
    frames = pipe(**call).frames[0]
    seconds = time.process_time() - begin
    peak = peak_memory()
    if case["check"]:
        np.save(folder / f"{side}.npy", np.asarray(frames))
    return {"seconds": seconds, "stages": spent, "peak": peak - before, "total": peak, "frames": len(frames)}


def timed(call, stage: str, spent: dict[str, float]):
    def measured(*args, **kwargs):
        begin = time.process_time()
        try:
            return call(*args, **kwargs)
        finally:
            spent[stage] = spent.get(stage, 0.0) + time.process_time() - begin

    return measured


def forget_peak() -> int:
    """Bytes in use now; from here on the peak is counted anew, where the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        return _status("VmRSS")
    except OSError:
        return peak_memory()


def peak_memory() -> int:
    try:
        return _status("VmHWM")
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


# --- both sides -----------------------------------------------------------------------------------------------------


def call_apart(folder: Path, case: dict, args: argparse.Namespace) -> dict[str, dict]:
    """The same call of both sides, each in a process of its own, at the same time: what else goes on meets both."""
    root, threads = Path(__file__).resolve().parents[1], str(args.threads)
    sides = {
        "ours": (sys.executable, root),
        "theirs": (args.python, Path(args.reference).resolve() / "diffusers" / "src"),
    }
    begun = {}
    for side, (python, source) in sides.items():
        environment = {
            **os.environ,
            "PYTHONPATH": str(source),
            "OMP_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
        }
        given = json.dumps({"side": side, "folder": str(folder), "case": case, "steps": args.steps})
        command = [python, str(Path(__file__).resolve()), "--work", given]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        begun[side] = subprocess.Popen(command, env=environment, cwd=folder, **pipes)
    found = {}
    for side, process in begun.items():
        out, errors = process.communicate()
        if process.returncode:
            for other in begun.values():
                other.kill()
            raise SystemExit(f"The call of {side} failed:\n{errors}")
        found[side] = json.loads(out.splitlines()[-1])
    return found


def compare_frames(folder: Path) -> str:
    import numpy as np

    one, other = (np.load(folder / f"{side}.npy") for side in ("ours", "theirs"))
    if one.shape != other.shape:
        return f"check: the shapes differ, {one.shape} and {other.shape}"
    apart = np.abs(one - other)
    return (
        f"check: {len(one)} frames with `match_reference` differ by {apart.max():.2e} at most, {apart.mean():.2e} in"
        " the mean, of a range of 1"
    )


def line(case: str, side: str, runs: list[dict]) -> str:
    stages = [
        median(run["stages"].get(name, 0.0) for run in runs)
        for name in ("encode", "branch", "transformer", "decode")
    ]
    values = [median(run["seconds"] for run in runs), *stages]
    memory = [median(run[name] for run in runs) / 2**20 for name in ("peak", "total")]
    cells = [f"{value:.1f}" for value in values] + [f"{value:,.0f}" for value in memory]
    return f"| {case} | {side} | {' | '.join(cells)} |"


def ratio(case: str, runs: dict[str, list[dict]]) -> str:
    def share(get) -> float:
        return median(get(a) / get(b) for a, b in zip(runs["ours"], runs["theirs"]))

    networks = share(lambda run: run["stages"]["branch"] + run["stages"]["transformer"])
    return (
        f"- {case}: {share(lambda run: run['seconds']):.2f} of the published code's time (wanted: {WANTED[case]}),"
        f" networks alone {networks:.2f}; {share(lambda run: run['peak']):.2f} of the memory that its call takes,"
        f" {share(lambda run: run['total']):.2f} with weights (wanted: {WANTED_MEMORY})"
    )


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--reference", type=Path, help="a checkout of the published code")
    parser.add_argument("--python", help="a Python that can import its fork of diffusers")
    parser.add_argument("--steps", type=int, default=6, help="of denoising (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=2, help="calls of each side (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="(default: %(default)s)")
    parser.add_argument("--cases", default=",".join(CASES), help="by comma (default: all)")
    parser.add_argument("--output", type=Path, help="write the table here")
    parser.add_argument("--work", help=argparse.SUPPRESS)  # one call, in a process of ours or of theirs
    args = parser.parse_args(given)
    if args.work:
        asked = json.loads(args.work)
        print(json.dumps(work(asked["side"], Path(asked["folder"]), asked["case"], asked["steps"])))
        return 0
    if not args.reference or not args.python:
        parser.error("say where the published code is: --reference CHECKOUT --python ITS_PYTHON")
    if not (args.reference / "diffusers" / "src" / "diffusers").is_dir():
        parser.error(
            f"'{args.reference}' has no diffusers/src/diffusers, so it is no checkout of VideoPainter"
        )
    unknown = [name for name in args.cases.split(",") if name not in CASES]
    if unknown:
        parser.error(f"the cases are {', '.join(CASES)}, not '{unknown[0]}'")
    table, notes = [HEADER], []
    print(HEADER)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(folder)
        for name in args.cases.split(","):
            case, runs = CASES[name], {"ours": [], "theirs": []}
            for _ in range(1 if case["check"] else args.rounds):
                for side, found in call_apart(folder, case, args).items():
                    runs[side].append(found)
            if case["check"]:
                notes.append(f"- {compare_frames(folder)}")
            else:
                table += [line(name, side, found) for side, found in runs.items()]
                notes.append(ratio(name, runs))
                print(*table[-2:], sep="\n", flush=True)
            print(notes[-1], flush=True)
    if args.output:
        from machine import processor

        command = f"python benchmarks/against_reference.py --steps {args.steps} --rounds {args.rounds}"
        command += " --reference CHECKOUT --python ITS_PYTHON"
        about = f"{processor()}, float32, {args.threads} thread(s)\n\n`{command}`"
        text = ["# VideoPainter against the published implementation", "", about, "", *table, "", *notes]
        args.output.write_text("\n".join(text) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
