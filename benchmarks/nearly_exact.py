"""What the nearly exact options change and save, on the recorded pipelines of the published code (tiny, float32, CPU).

    python benchmarks/nearly_exact.py [--steps 20] [--output results/nearly_exact.md]

The networks are those of `tests/parity/data/videopainter`, with weights that are deterministic but not trained: how
far results move says whether an option works and which is gentler, but not how it looks with released weights.
Differences are of final latents, in shares of their standard deviation. How often attention and feed-forward layers
were computed is counted; "cost" is what that comes to at the released size, where attention with its projections is
0.66 of a block (`tests/full_size` has the exact sums).
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "diffusion")]

TOKENS, WIDTH = 226 + 13 * 30 * 45, 3072
ATTENTION = (4 * WIDTH + 2 * TOKENS) / (12 * WIDTH + 2 * TOKENS)  # of a block's multiplications

HEADER = "| option | attention | feed-forward | cost | mean difference | largest |\n|---|---|---|---|---|---|"


def tiny():
    """The makers of `tests/diffusion/conftest.py`."""
    spec = importlib.util.spec_from_file_location("makers", ROOT / "tests" / "diffusion" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def options() -> dict:
    """By name: what is done to the pipeline, and what the call gets."""
    from videopainter.diffusion import memory
    from videopainter.diffusion.memory.eight_bits import store_in_eight_bits

    def cache(name, threshold=None):
        def enable(pipe):
            if threshold is not None:
                memory.modes.CACHE_THRESHOLD = threshold
            memory.enable_cache(pipe, name)

        return enable

    def cast(pipe):
        for network in (pipe.transformer, pipe.branch):
            network.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)

    def rows(pipe):
        for network in (pipe.transformer, pipe.branch):
            store_in_eight_bits(network, ("norm", "patch_embed", "^proj_out$"))

    def nothing(pipe):
        pass

    return {
        "all computed, another seed": (nothing, {"generator": torch.Generator().manual_seed(1)}),
        "`--cache first_block` (threshold 0.1)": (cache("first_block", 0.1), {}),
        "first block, threshold 0.5": (cache("first_block", 0.5), {}),
        "`--cache broadcast`": (cache("broadcast"), {}),
        "`--cache taylor`": (cache("taylor"), {}),
        "`--guidance_stop 0.9`": (nothing, {"guidance_stop": 0.9}),
        "`--guidance_stop 0.75`": (nothing, {"guidance_stop": 0.75}),
        "`--guidance_stop 0.5`": (nothing, {"guidance_stop": 0.5}),
        "8 bits, merely cast": (cast, {}),
        "8 bits, a scale a row (`--memory low`, `minimum`)": (rows, {}),
    }


def run(makers, steps: int, change, arguments: dict) -> tuple[torch.Tensor, dict[str, int]]:
    pipe = makers.make_pipeline()
    change(pipe)
    call = {
        "num_inference_steps": steps,
        "output_type": "latent",
        "id_pool": True,
        "prev_clip_weight": 0.5,
        "generator": torch.Generator().manual_seed(0),
    }
    rows = {"attention": 0, "feed-forward": 0}

    def count(kind: str):
        def hook(module, inputs, output):
            rows[kind] += len(output)

        return hook

    for block in pipe.transformer.transformer_blocks:
        block.attn1.to_out[0].register_forward_hook(count("attention"))
        block.ff.register_forward_hook(count("feed-forward"))
    latents = pipe(**makers.make_arguments(17, **{**call, **arguments})).frames
    return latents.float(), rows


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--output", type=Path, help="write the table here")
    args = parser.parse_args(given)
    makers = tiny()
    plain, everything = run(makers, args.steps, lambda pipe: None, {})
    lines = [HEADER]
    print(HEADER)
    for name, (change, arguments) in options().items():
        latents, rows = run(makers, args.steps, change, arguments)
        attention, layers = (rows[kind] / everything[kind] for kind in ("attention", "feed-forward"))
        cost = ATTENTION * attention + (1 - ATTENTION) * layers
        apart = (latents - plain).abs() / plain.std()
        cells = f"{attention:.2f} | {layers:.2f} | {cost:.2f} | {apart.mean():.4f} | {apart.max():.3f}"
        lines.append(f"| {name} | {cells} |")
        print(lines[-1], flush=True)
    if args.output:
        head = f"# VideoPainter: nearly exact options\n\n`python benchmarks/nearly_exact.py --steps {args.steps}`\n"
        args.output.write_text("\n".join([head, *lines]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
