"""`python -m videopainter.e2fgvi.train`: fine-tunes E2FGVI on your own videos."""

from __future__ import annotations

import argparse
import logging
import sys

from videopainter.cli import errors
from videopainter.cli.parser import Parser
from videopainter.utils.size import parse_size


def main(argv: list[str] | None = None, prog: str | None = None) -> int:
    """Returns the exit status; see `errors`."""
    known: dict = {}

    def work() -> None:
        args = build_parser(prog or "python -m videopainter.e2fgvi.train").parse_args(argv)
        known.update(vars(args))
        logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.INFO, force=True)
        _train(args)

    stopped = "Stopped at once; the same command goes on from the last checkpoint."
    return errors.run(work, prog or "train", known, stopped)


def build_parser(prog: str) -> argparse.ArgumentParser:
    from videopainter.e2fgvi.configuration import FIXED_SIZE
    from videopainter.e2fgvi.training.trainer import TrainingOptions

    usual = TrainingOptions()
    parser = Parser(prog=prog, description="Fine-tune E2FGVI on your own videos.")
    parser.add_argument("--data", required=True, metavar="FOLDER", help="videos, or folders of images")
    parser.add_argument("--output_dir", required=True, metavar="FOLDER", help="checkpoint.pt and model/")
    parser.add_argument("--weights", help="where to begin (default: e2fgvi in the weights folder)")
    parser.add_argument("--variant", help="hq or base (default: hq if it is there)")
    parser.add_argument("--steps", type=int, default=500_000, help="(default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=1, help="(default: %(default)s; published: 8)")
    parser.add_argument(
        "--size", type=parse_size, default=FIXED_SIZE, metavar="WxH", help="(default: 432x240)"
    )
    parser.add_argument("--local_frames", type=int, default=usual.local_frames, help="(default: %(default)s)")
    parser.add_argument("--ref_frames", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--lr", type=float, default=usual.lr, help="learning rate (default: %(default)s)")
    parser.add_argument(
        "--lr_drop",
        type=int,
        default=usual.lr_drop,
        help="step from which it is a tenth (default: %(default)s)",
    )
    for name in ("hole", "valid", "flow", "adversarial"):
        default = getattr(usual, f"{name}_weight")
        parser.add_argument(
            f"--{name}_weight", type=float, default=default, help="of a loss (default: %(default)s)"
        )
    parser.add_argument(
        "--discriminator_width", type=int, default=usual.width, help="channels (default: %(default)s)"
    )
    parser.add_argument(
        "--flow_teacher",
        metavar="FILE",
        help="a SPyNet whose flow is taken for true (default: the model's own as it is at the beginning)",
    )
    parser.add_argument("--save_every", type=int, default=1000, help="steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=42, help="(default: %(default)s)")
    parser.add_argument("--device", help="cuda, cuda:1, ..., cpu (default: the first GPU)")
    return parser


def _train(args: argparse.Namespace) -> None:
    from videopainter.e2fgvi.training import run as training
    from videopainter.e2fgvi.training.trainer import TrainingOptions

    options = TrainingOptions(
        local_frames=args.local_frames,
        lr=args.lr,
        lr_drop=args.lr_drop,
        hole_weight=args.hole_weight,
        valid_weight=args.valid_weight,
        flow_weight=args.flow_weight,
        adversarial_weight=args.adversarial_weight,
        width=args.discriminator_width,
    )
    training.train(
        args.data,
        args.output_dir,
        weights=args.weights,
        variant=args.variant,
        steps=args.steps,
        batch_size=args.batch_size,
        size=args.size,
        ref_frames=args.ref_frames,
        options=options,
        flow_teacher=args.flow_teacher,
        save_every=args.save_every,
        seed=args.seed,
        device=args.device,
        progress=True,
    )
    print(f"Written to {args.output_dir}: {training.CHECKPOINT}, {training.MODEL}/")
