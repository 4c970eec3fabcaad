"""What the engines cost at their real size, on fake tensors: no GPU and no weights are needed, and nothing is timed.

    python benchmarks/full_size.py                                        # VideoPainter, mode fast, one window
    python benchmarks/full_size.py --mode fast,balanced,low,minimum --frames 49,97,145 --id_pool --lora
    python benchmarks/full_size.py --engine flux                          # the first frame's transformer
    python benchmarks/full_size.py --engine propainter,e2fgvi --mode single,half --frames 12 --size 720x1280
    python benchmarks/full_size.py --blocks 2                             # of 42, to try the script

Every row is one stage of one run: peak of live device memory (with 0.5 GiB for CUDA's own context), of host memory,
floating point operations, kernels, traffic of those that multiply nothing, copies, waits of the host for the device,
float32 copies of half precision, and attention kernels. See `benchmarks/fake_gpu.py` for what it cannot know.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import fake_gpu  # noqa: E402
from fake_gpu import DEVICE, GIB  # noqa: E402

CONTEXT = GIB // 2  # CUDA's own memory, which no tensor shows
LORA_RANK = 256  # of the released adapter: 505 MB
HEADER = (
    "| engine | mode | frames | stage | GPU GiB | host GiB | PFLOP | kernels | traffic GB | up GB | down GB |"
    " pageable GB | largest copy MB | waits | float32 GB | attention |\n" + "|---" * 16 + "|"
)


def row(name: str, counts, context: int = CONTEXT) -> dict:
    """Numbers of one stage."""
    return {
        "stage": name,
        "gpu_gib": round((counts.peak + context) / GIB, 2),
        "host_gib": round(counts.host_peak / GIB, 2),
        "flops": counts.flops,
        "kernels": counts.kernels,
        "traffic_gb": round(counts.traffic / 1e9, 1),
        "up_gb": round(counts.uploads / 1e9, 3),
        "down_gb": round(counts.downloads / 1e9, 3),
        "pageable_gb": round(counts.pageable / 1e9, 3),
        "largest_copy_mb": round(counts.largest_copy / 1e6, 2),
        "waits": dict(counts.waits),
        "upcast_gb": round(counts.upcasts / 1e9, 1),
        "attention": dict(counts.attention),
    }


def line(about: dict, one: dict) -> str:
    waits = ", ".join(f"{n} {cause}" for cause, n in one["waits"].items()) or "none"
    attention = ", ".join(f"{n} {kernel}" for kernel, n in one["attention"].items())
    return (
        f"| {about['engine']} | {about['mode']} | {about['frames']} | {one['stage']} | {one['gpu_gib']:.2f} |"
        f" {one['host_gib']:.1f} | {one['flops'] / 1e15:.3f} | {one['kernels']} | {one['traffic_gb']} |"
        f" {one['up_gb']:.2f} | {one['down_gb']:.2f} | {one['pageable_gb']:.2f} | {one['largest_copy_mb']} |"
        f" {waits} | {one['upcast_gb']} | {attention} |"
    )


@contextmanager
def quick_building():
    """Modules without the initial values that nobody can see in them."""
    import torch

    init = torch.nn.init
    names = [name for name in dir(init) if name.endswith("_") and not name.startswith("_")]
    kept = {name: getattr(init, name) for name in names}
    for name in names:
        setattr(init, name, lambda tensor, *_, **__: tensor)
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(init, name, function)


def build_pipeline(lora: bool = False, blocks: int | None = None, size: str = "real"):
    """VideoPainter at its released size (see `random_videopainter.SIZES`), bfloat16, on the host.

    lora: with the ID adapter. blocks: of the transformer; all if None.
    """
    import torch
    from diffusers import AutoencoderKLCogVideoX, CogVideoXDPMScheduler
    from random_videopainter import SIZES, configuration

    from videopainter.diffusion import (
        VideoPainterBranchModel,
        VideoPainterPipeline,
        VideoPainterTransformer3DModel,
    )

    def half(network):
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.data = tensor.data.to(torch.bfloat16)
        return network.eval().requires_grad_(False)

    with quick_building():
        shape = configuration(size, "transformer")
        shape["num_layers"] = blocks or shape["num_layers"]
        pipe = VideoPainterPipeline(
            tokenizer=None,
            text_encoder=None,
            vae=half(AutoencoderKLCogVideoX(**SIZES[size]["vae"])),
            transformer=half(VideoPainterTransformer3DModel(**shape)),
            scheduler=CogVideoXDPMScheduler(prediction_type="v_prediction", timestep_spacing="trailing"),
            branch=half(VideoPainterBranchModel(**configuration(size, "branch"))),
        )
        if lora:
            from peft import LoraConfig

            layers = ["to_q", "to_k", "to_v", "to_out.0"]
            pipe.transformer.add_adapter(
                LoraConfig(r=LORA_RANK, lora_alpha=LORA_RANK, target_modules=layers), "id"
            )
            half(pipe.transformer)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def watch_stages(pipe, gpu) -> None:
    """Name the stages of a call after the pipeline's own steps."""
    for method, stage in {
        "prepare_latents": "encode",
        "denoise_window": "denoise",
        "decode_latents": "decode",
    }.items():
        setattr(pipe, method, _staged(pipe, gpu, getattr(pipe, method), stage))


def _staged(pipe, gpu, call, stage: str):
    def staged(*args, **kwargs):
        with gpu.stage(f"{stage} {pipe.current_window + 1}"):
            return call(*args, **kwargs)

    return staged


def make_video(frames: int, kind: str = "tensor", hole: float = 0.22, size=(480, 720)):
    """A clip of random numbers nobody looks at, and masks with a hole of that share of the picture."""
    import numpy as np
    import torch

    masks = np.zeros((frames, *size), bool)
    high = round(size[0] * hole**0.5 / 16) * 16
    wide = round(size[1] * hole / (high / size[0]) / 16) * 16
    masks[:, 96 : 96 + high, 160 : 160 + wide] = True
    video = {
        "tensor": lambda: torch.empty(frames, 3, *size),
        "cuda": lambda: torch.empty(frames, 3, *size, device=DEVICE),
        "array": lambda: np.broadcast_to(np.zeros((), np.uint8), (frames, *size, 3)),
    }[kind]()
    return video, masks


def arguments(frames: int, steps: int, id_pool: bool, hole: float = 0.22, **changes) -> dict:
    """A call of the pipeline on fake tensors."""
    import torch

    video, masks = make_video(frames, hole=hole)
    given = {
        "video": video,
        "masks": masks,
        "prompt_embeds": torch.empty(1, 226, 4096, dtype=torch.bfloat16),
        "negative_prompt_embeds": torch.empty(1, 226, 4096, dtype=torch.bfloat16),
        "num_inference_steps": steps,
        "id_pool": id_pool,
        "prev_clip_weight": 0.5 if id_pool else 0.0,
        "generator": torch.Generator().manual_seed(0),
        "output_type": "pt",
    }
    return {**given, **changes}


def run_videopainter(gpu, case: dict) -> None:
    """One call in a memory mode, from weights on the host to frames on the host."""
    import torch

    from videopainter.diffusion import memory

    with gpu.stage("load"):
        pipe = build_pipeline(case["lora"], case["blocks"])
        if case["lora"]:
            memory.fuse_adapter(pipe)
        memory.place(pipe, case["mode"], DEVICE, case["cache"])
    watch_stages(pipe, gpu)
    with torch.no_grad():
        for part in pipe.stream(
            **arguments(case["frames"], case["steps"], case["id_pool"], case.get("hole", 0.22))
        ):
            del part


def run_flux(gpu, case: dict) -> None:
    """One step of FLUX.1 Fill's transformer, by far its largest network, for a first frame of 480 x 720."""
    import torch
    from diffusers import FluxTransformer2DModel

    with gpu.stage("load"), quick_building():
        transformer = FluxTransformer2DModel(in_channels=384, out_channels=64, guidance_embeds=True)
        for tensor in (*transformer.parameters(), *transformer.buffers()):
            tensor.data = tensor.data.to(torch.bfloat16)
    with gpu.stage("denoise"), torch.no_grad():
        transformer.to(DEVICE)
        half = {"device": DEVICE, "dtype": torch.bfloat16}
        transformer(
            hidden_states=torch.empty(1, 30 * 45, 384, **half),
            encoder_hidden_states=torch.empty(1, 512, 4096, **half),
            pooled_projections=torch.empty(1, 768, **half),
            timestep=torch.empty(1, **half),
            guidance=torch.empty(1, device=DEVICE),
            img_ids=torch.empty(30 * 45, 3, **half),
            txt_ids=torch.empty(512, 3, **half),
        )


class MovingHole:
    """A clip that nobody looks at, with a hole of 22 % of the picture that moves on; `Clip` of both flow engines."""

    def __init__(self, frames: int, size: tuple[int, int]):
        import numpy as np

        self.count, self.size = frames, size
        self.picture = np.zeros((*size, 3), np.uint8)

    def __len__(self) -> int:
        return self.count

    def frame(self, i: int):
        return self.picture

    def hole(self, i: int):
        mask = self.picture[..., 0] > 0
        height, width = self.size
        left = width // 8 + i
        mask[height // 4 : height * 3 // 4, left : left + width * 44 // 100] = True
        return mask

    flow_hole = hole


def run_flow_engine(gpu, case: dict) -> None:
    """ProPainter or E2FGVI-HQ over a whole clip; the mode "half" has its networks in float16, as the engines do."""
    import torch

    from videopainter.e2fgvi import E2FGVIModel
    from videopainter.e2fgvi.streaming import Settings, paint
    from videopainter.propainter import ProPainterConfig, ProPainterModel

    clip = MovingHole(case["frames"], tuple(case["size"]))
    with gpu.stage("load"), quick_building():
        if case["engine"] == "propainter":
            model = ProPainterModel(ProPainterConfig())
            halved = [model.flow_completion_net, model.inpaint_generator]
        else:
            model = E2FGVIModel()
            halved = [model]
        model.to(DEVICE)
        for network in halved if case["mode"] == "half" else ():
            network.half()
    with gpu.stage("clip"), torch.no_grad():
        if case["engine"] == "propainter":
            watch_networks(gpu, model)
            frames = model.paint(clip)
        else:
            frames = paint(model, clip, Settings())
        count = sum(1 for _ in frames)
    assert count == len(clip)


def watch_networks(gpu, model) -> None:
    """Name stages after ProPainter's networks."""
    for name, network in {"flow": model.optical_flow_model, "completion": model.flow_completion_net}.items():
        method = "forward" if name == "flow" else "predict"
        setattr(network, method, _in_stage(gpu, getattr(network, method), name))
    model.inpaint_generator.paint = _in_stage(gpu, model.inpaint_generator.paint, "painting")


def _in_stage(gpu, call, stage: str):
    def staged(*args, **kwargs):
        with gpu.stage(stage):
            return call(*args, **kwargs)

    return staged


RUNS = {
    "videopainter": run_videopainter,
    "flux": run_flux,
    "propainter": run_flow_engine,
    "e2fgvi": run_flow_engine,
}


SUMMARY = (
    "| mode | frames | encode | denoise | decode | most | host | up a step, GB | waits a window |\n"
    + "|---" * 9
    + "|"
)


def summary(result: dict) -> str:
    """A run of VideoPainter in one line: GiB at most, by stage over all windows."""
    peaks = {}
    for one in result["stages"]:
        kind = one["stage"].split()[0]
        peaks[kind] = max(peaks.get(kind, 0), one["gpu_gib"])
    loops = [one for one in result["stages"] if one["stage"].startswith("denoise")]
    up = loops[0]["up_gb"] / result["steps"]
    waits = max(sum(one["waits"].values()) for one in loops)
    host = max(one["host_gib"] for one in result["stages"])
    cells = [f"{peaks[kind]:.1f}" for kind in ("encode", "denoise", "decode")]
    return (
        f"| `{result['mode']}` | {result['frames']} | {' | '.join(cells)} | {max(peaks.values()):.1f} |"
        f" {host:.1f} | {up:.2f} | {waits} |"
    )


def measure(case: dict) -> dict:
    """One run in this process, which believes in a GPU from now on."""
    fake_gpu.pretend()
    gpu = fake_gpu.FakeGPU(found=case.get("hole", 0.22))
    with gpu.running():
        RUNS[case["engine"]](gpu, case)
    stages = [row(name, counts) for name, counts in gpu.stages.items() if counts.kernels or counts.copies]
    return {**case, "stages": stages}


def measure_apart(case: dict) -> dict:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--one", json.dumps(case)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{case} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engine", default="videopainter", help=f"{', '.join(RUNS)}; by comma")
    parser.add_argument(
        "--mode",
        default="fast",
        help="memory modes, by comma (default: %(default)s); single or half for propainter and e2fgvi",
    )
    parser.add_argument(
        "--size", default="720x1280", help="height x width for those two (default: %(default)s)"
    )
    parser.add_argument("--frames", default="49", help="by comma (default: %(default)s)")
    parser.add_argument("--id_pool", action="store_true", help="ID resampling, and the pool between windows")
    parser.add_argument(
        "--hole", type=float, default=0.22, help="share of the picture (default: %(default)s)"
    )
    parser.add_argument("--lora", action="store_true", help="with the ID adapter")
    parser.add_argument("--steps", type=int, default=2, help="peaks do not depend on them (default: 2)")
    parser.add_argument("--blocks", type=int, default=42, help="of the transformer (default: all 42)")
    parser.add_argument("--cache", default="none", choices=("none", "first_block"))
    parser.add_argument("--output", type=Path, help="a file for the numbers, as JSON")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # what a process of ours measures
    args = parser.parse_args(given)
    if args.one:
        print(json.dumps(measure(json.loads(args.one))))
        return 0
    unknown = [name for name in args.engine.split(",") if name not in RUNS]
    if unknown:
        parser.error(f"the engines are {', '.join(RUNS)}, not '{unknown[0]}'")
    shared = {name: getattr(args, name) for name in ("id_pool", "hole", "lora", "steps", "blocks", "cache")}
    shared["size"] = [int(n) for n in args.size.split("x")]
    print(HEADER)
    results = []
    for engine in args.engine.split(","):
        for frames in args.frames.split(","):
            for mode in args.mode.split(","):
                case = {**shared, "engine": engine, "mode": mode, "frames": int(frames)}
                results.append(measure_apart(case))
                print(*(line(results[-1], one) for one in results[-1]["stages"]), sep="\n", flush=True)
    summaries = [summary(result) for result in results if result["engine"] == "videopainter"]
    if summaries:
        print("", SUMMARY, *summaries, sep="\n")
    if args.output:
        args.output.write_text(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
