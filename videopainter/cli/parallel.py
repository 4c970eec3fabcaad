"""One clip on several GPUs: `torchrun --nproc_per_node N -m videopainter.cli.parallel --guidance -- --video ...`.

What stands after `--` are the flags of `videopainter inpaint`. All processes work together; the first one writes the
results.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile

from videopainter.cli import errors
from videopainter.cli.parser import Parser


def build_parser(prog: str = "videopainter.cli.parallel") -> argparse.ArgumentParser:
    parser = Parser(prog=prog, description="Inpaint one clip on several GPUs, started by torchrun.")
    parser.add_argument(
        "--ulysses", type=int, default=1, metavar="N", help="processes that divide the tokens of a window"
    )
    parser.add_argument("--guidance", action="store_true", help="divide the two halves of guidance")
    parser.add_argument("inpaint", nargs=argparse.REMAINDER, help="-- and the flags of videopainter inpaint")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status; see `errors`."""
    parser = build_parser()
    args = parser.parse_args(sys.argv[1:] if argv is None else argv)
    return errors.run(lambda: run(args), parser.prog, vars(args))


def run(args: argparse.Namespace) -> int:
    """This process's part."""
    import torch.distributed

    from videopainter.cli import inpaint
    from videopainter.diffusion.parallel import Parallelism, chosen, processes_of_launcher

    flags = args.inpaint[1:] if args.inpaint[:1] == ["--"] else args.inpaint
    how = Parallelism(args.ulysses, args.guidance)
    with processes_of_launcher() as device, tempfile.TemporaryDirectory() as nowhere, chosen(how):
        how.check(how.ulysses, torch.distributed.get_world_size())
        more = ["--device", str(device)]
        if torch.distributed.get_rank() > 0:
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
            more += ["--output_dir", nowhere]
        return inpaint.main([*flags, *more])


if __name__ == "__main__":
    errors.door(main)
