"""`python -m videopainter.dstt.train`: trains DSTT with memory."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from videopainter.cli import errors
from videopainter.cli.parser import Parser
from videopainter.utils.checks import MOST_THREADS, whole_number
from videopainter.utils.sentences import first_line
from videopainter.weights import WeightsError, read_json


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    """Returns the exit status; see `errors`."""
    known: dict = {}

    def work() -> None:
        args = build_parser(prog or "python -m videopainter.dstt.train").parse_args(argv)
        known.update(vars(args))
        _train(args)

    stopped = "Stopped at once; --resume goes on from the last checkpoint, if there is one."
    return errors.run(work, prog or "train", known, stopped)


def build_parser(prog: str) -> argparse.ArgumentParser:
    from videopainter.dstt.training.curriculum import CURRICULA

    parser = Parser(prog=prog, description="Train DSTT with memory.")
    parser.add_argument("--curriculum", default="small", help=", ".join(CURRICULA))
    parser.add_argument("--config", type=Path, help="a JSON file of a whole TrainConfig instead")
    parser.add_argument(
        "--stage",
        type=_stages,
        metavar="N[,N]",
        help="only these of its stages, counted from 1 (default: all)",
    )
    parser.add_argument(
        "--start_from", type=Path, metavar="FILE.pt", help="a checkpoint whose weights a new run begins with"
    )
    parser.add_argument("--data", type=_pair, action="append", default=[], metavar="LAYOUT=FOLDER")
    parser.add_argument("--validation", type=_pair, action="append", default=[], metavar="LAYOUT=FOLDER")
    parser.add_argument("--output", type=Path, required=True, help="folder of the run")
    parser.add_argument(
        "--resume", action="store_true", help="go on from OUTPUT/last.pt, with its configuration"
    )
    parser.add_argument("--device", help="cuda, cuda:1, ..., cpu (default: a GPU if there is one)")
    parser.add_argument("--workers", type=int, default=1, help="processes that prepare data")
    parser.add_argument("--threads", type=int, help="of PyTorch")
    return parser


def _train(args: argparse.Namespace) -> None:
    import cv2
    import matplotlib  # noqa: F401  the curve needs it: not found out after hours
    import torch

    from videopainter.dstt.training import trainer as training
    from videopainter.dstt.training import validate
    from videopainter.utils.signals import Stop

    if args.threads is not None:
        whole_number("threads", args.threads, most=MOST_THREADS)
        torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    state = training.read_checkpoint(args.output / "last.pt") if args.resume else None
    config = _read_config(args, state)
    trainer = training.Trainer(config, args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if state is not None:
        trainer.load(state)
    elif args.start_from is not None:
        trainer.begin_with(training.read_checkpoint(args.start_from))
    steps = training.Steps(config, training.read_sources(config, args.data))
    cases = validate.validation_set(training.validation_sources(config, args.validation), config.network.size)
    args.output.mkdir(parents=True, exist_ok=True)
    notice = "Stops after this step; once more stops at once, and goes back to the last checkpoint."
    with Stop(notice) as stop:
        baselines = {"telea": validate.telea, "propagation": _propagated}
        training.run(trainer, steps, cases, args.output, args.workers, stop, baselines)


def _propagated(case) -> np.ndarray:
    """What the engine without a network makes of a case of the validation; it may look ahead."""
    from videopainter.dstt.training.validate import hidden
    from videopainter.engine import ENGINES
    from videopainter.masks import MaskTrack
    from videopainter.video import ArraySource

    engine = ENGINES["propagation"].load()
    return np.stack(list(engine(ArraySource(hidden(case)), MaskTrack.from_array(case.masks))))


def _pair(text: str) -> tuple[str, str]:
    from videopainter.dstt.training.data import LAYOUTS

    layout, separator, folder = text.partition("=")
    if not separator or layout not in LAYOUTS:
        raise argparse.ArgumentTypeError(f"LAYOUT=FOLDER with a layout of {', '.join(LAYOUTS)}, not '{text}'")
    return layout, folder


def _stages(text: str) -> list[int]:
    try:
        numbers = sorted({int(part) for part in text.split(",")})
        if numbers[0] >= 1:
            return numbers
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(
        f"'{text}' is not a number of a stage, 1 or more, or several with commas"
    )


def _read_config(args: argparse.Namespace, state: dict | None):
    from videopainter.dstt.training.curriculum import TrainConfig, curriculum

    if state is None and args.config is None:
        return _only(curriculum(args.curriculum), args.stage)
    path = args.config if state is None else args.output / "last.pt"
    try:
        found = TrainConfig.from_dict(read_json(path) if state is None else state["config"])
    except WeightsError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise WeightsError(f"'{path}' is not a training configuration: {first_line(error)}.") from None
    return found if state is not None else _only(found, args.stage)


def _only(config, numbers: list[int] | None):
    """The configuration with these of its stages, counted from 1. Raises ValueError for one that it has not."""
    if numbers is None:
        return config
    if numbers[-1] > len(config.stages):
        raise ValueError(f"There are {len(config.stages)} stages, so none is number {numbers[-1]}.")
    return replace(config, stages=tuple(config.stages[number - 1] for number in numbers))
