"""What each path from the past brings: short trainings of the same length with one of them left out.

    python benchmarks/dstt_ablation.py --checkpoint RUN/last.pt --data videos=FOLDER --steps 60 --output FOLDER

Each goes on from the same checkpoint on the same sequences, so that the network can get used to what it lacks; the
optimiser starts afresh. Compare the three files with `benchmarks/dstt_quality.py --also "no tokens=FILE" ...`.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from videopainter.dstt.curriculum import Stage, TrainConfig
from videopainter.dstt.data import LAYOUTS
from videopainter.dstt.train import Steps, Trainer, read_checkpoint, read_sources
from videopainter.dstt.weights import save_model

VARIANTS = {"both paths": {}, "no tokens": {"token_memory": False}, "no previous": {"use_previous": False}}
_RATE = 2e-4
_SEED = 1000  # sequences that the run before has not seen


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument(
        "--data", action="append", default=[], metavar="LAYOUT=FOLDER", help=", ".join(LAYOUTS)
    )
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    state = read_checkpoint(args.checkpoint)
    config = replace(
        TrainConfig.from_dict(state["config"]),
        stages=(Stage("ablation", args.steps, photos=True, frames=args.frames),),
        learning_rate=_RATE,
        average=0.98,
        seed=_SEED,
    )
    sources = read_sources(config, [tuple(pair.split("=", 1)) for pair in args.data])
    args.output.mkdir(parents=True, exist_ok=True)
    for name in args.variants.split(","):
        trainer = Trainer(replace(config, **VARIANTS[name]))
        trainer.model.load_state_dict(state["mean"])
        trainer.mean.load_state_dict(state["mean"])
        steps = Steps(trainer.config, sources)
        for step in range(args.steps):
            trainer.train_step(steps[step])
        print(
            f"{name}: loss {np.mean(trainer.losses[: args.steps // 4]):.4f} in the first quarter, "
            f"{np.mean(trainer.losses[-args.steps // 4 :]):.4f} in the last",
            flush=True,
        )
        save_model(trainer.mean, args.output / f"{name.replace(' ', '_')}.safetensors")


if __name__ == "__main__":
    main()
