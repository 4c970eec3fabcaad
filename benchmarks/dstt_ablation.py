"""What each path from the past brings: trainings from scratch that differ in nothing but the path they lack.

    python benchmarks/dstt_ablation.py --data videos=FOLDER --share 0.1 --output FOLDER

Each goes through the same sequences, a share of the curriculum's, the learning rate falling to zero at their end.
Compare the files with `benchmarks/dstt_quality.py --also "no tokens=FOLDER/no_tokens.safetensors" ...`.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from videopainter.dstt.training.curriculum import CURRICULA, TrainConfig, curriculum
from videopainter.dstt.training.data import LAYOUTS
from videopainter.dstt.training.trainer import Steps, Trainer, read_sources
from videopainter.dstt.weights import save_model

VARIANTS = {"both paths": {}, "no tokens": {"token_memory": False}, "no previous": {"use_previous": False}}


def shortened(config: TrainConfig, share: float) -> TrainConfig:
    """The same run with a share of its steps, of its warming up and of what its mean reaches back."""
    stages = tuple(replace(stage, steps=max(1, round(stage.steps * share))) for stage in config.stages)
    average = 1 - min(1.0, (1 - config.average) / share) if config.average else 0.0
    return replace(config, stages=stages, warm_up=round(config.warm_up * share), average=average)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--curriculum", default="small", help=", ".join(CURRICULA))
    parser.add_argument(
        "--data", action="append", default=[], metavar="LAYOUT=FOLDER", help=", ".join(LAYOUTS)
    )
    parser.add_argument("--share", type=float, default=0.1, help="of the curriculum's steps")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args(arguments)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    config = shortened(curriculum(args.curriculum), args.share)
    sources = read_sources(config, [tuple(pair.split("=", 1)) for pair in args.data])
    args.output.mkdir(parents=True, exist_ok=True)
    for name in args.variants.split(","):
        trainer = Trainer(replace(config, **VARIANTS[name]))
        steps = torch.utils.data.DataLoader(
            Steps(trainer.config, sources), batch_size=None, collate_fn=None, num_workers=1, prefetch_factor=4
        )
        for samples in tqdm(steps, desc=name):
            trainer.train_step(samples)
        last = trainer.losses[-max(1, len(trainer.losses) // 5) :]
        print(f"{name}: {trainer.step} steps, loss {np.mean(last):.4f} in the last fifth", flush=True)
        save_model(trainer.mean, args.output / f"{name.replace(' ', '_')}.safetensors")


if __name__ == "__main__":
    main()
