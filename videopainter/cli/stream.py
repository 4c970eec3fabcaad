"""`videopainter stream` and `python -m videopainter.dstt.stream`: live frames in, frames out, until they end.

... --source 0 --box 200,100,330,400 --output out.mp4
... --source my.mp4 --mask masks.npz --output out.mp4
ffmpeg -i my.mp4 -f rawvideo -pix_fmt rgb24 - | ... --source - --size 640x480 --mask hole.png --output - | ffplay ...
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from videopainter.cli import errors
from videopainter.cli.parser import Parser
from videopainter.engine import ENGINES
from videopainter.utils.signals import Stop
from videopainter.utils.size import parse_size


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Returns the exit status; see `errors`. 0 when the frames end or Ctrl-C is pressed."""
    args = build_parser(prog or "python -m videopainter.dstt.stream").parse_args(argv)

    def work() -> int:
        check(args)
        with Stop() as stop:
            from videopainter.cli.live import run  # NumPy, OpenCV and the network come with it

            return run(args, stop)

    return errors.run(work, prog or "dstt", vars(args), "Stopped at once; nothing is written.")


def build_parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(
        prog=prog,
        description="Take something out of a live stream, frame by frame.",
    )
    parser.add_argument(
        "--source",
        required=True,
        help="number of a camera, a video or folder of images, or -: raw frames on stdin",
    )
    parser.add_argument("--output", required=True, help="a video to write (.mp4), or -: raw rgb24 on stdout")
    parser.add_argument(
        "--size", type=parse_size, metavar="WxH", help="of the pipe's frames; asked of a camera"
    )
    parser.add_argument(
        "--fps", type=float, help="of the pipe or a folder of images (default: 25); asked of a camera"
    )
    parser.add_argument(
        "--keep_up", action="store_true", help="drop frames rather than lag; a video plays at its rate"
    )
    parser.add_argument("--max_frames", type=int, metavar="N", help="stop after so many")
    hole = parser.add_argument_group("what should go")
    hole.add_argument(
        "--mask", help="one image; for a video also what run_demo.py takes: .npz, folder, mask video"
    )
    hole.add_argument("--box", type=_box, action="append", metavar="X0,Y0,X1,Y1", help="may be repeated")
    hole.add_argument(
        "--alpha_mask",
        action="store_true",
        help="the pipe's frames are rgba, the fourth byte over 127 in the hole",
    )
    hole.add_argument(
        "--dilate_size",
        type=float,
        default=ENGINES["dstt"].dilate_size,
        metavar="PIXELS",
        help="how much wider and taller masks get, in a picture of 480 lines (default: %(default)s)",
    )
    hole.add_argument(
        "--warm_start",
        metavar="PATH",
        help="a video or folder of images of the same view before the thing was there",
    )
    network = parser.add_argument_group("network")
    network.add_argument(
        "--weights", help=".safetensors, or exported: .onnx, .pt2 (default: the shipped weights)"
    )
    network.add_argument(
        "--allow_code",
        action="store_true",
        help="load a .pt2 file, which runs whatever code is in it: only for files that you trust",
    )
    network.add_argument("--device", help="cpu, cuda, ... (default: a GPU if there is one)")
    network.add_argument(
        "--threads",
        type=int,
        help="on a CPU (default: with PyTorch one for a small network, such as the shipped one, else what the library "
        "takes)",
    )
    return parser


def check(args: argparse.Namespace) -> None:
    """Raises ValueError for flags that do not go together."""
    from videopainter.cli.live import PIPE, is_video
    from videopainter.masks import IMAGE_SUFFIXES

    if sum(map(bool, (args.mask, args.box, args.alpha_mask))) != 1:
        raise ValueError("Say what should go with one of --mask, --box and --alpha_mask.")
    if not 0 <= args.dilate_size < float("inf"):
        raise ValueError(f"The dilation must be 0 or more pixels, not {args.dilate_size}.")
    if args.max_frames is not None and args.max_frames < 1:
        raise ValueError(f"--max_frames is 1 or more, not {args.max_frames}.")
    if args.fps is not None and not 0 < args.fps <= 1000:
        raise ValueError(f"--fps is above 0 and at most 1000, not {args.fps:g}.")
    if args.source == PIPE and args.size is None:
        raise ValueError("Raw frames need --size WIDTHxHEIGHT.")
    if args.alpha_mask and args.source != PIPE:
        raise ValueError(f"--alpha_mask is for raw frames on stdin, not for '{args.source}'.")
    if is_video(args.source):
        for flag in ("size", "fps"):
            if getattr(args, flag) is not None and not (flag == "fps" and Path(args.source).is_dir()):
                raise ValueError(f"'{args.source}' has its own {flag}: --{flag} is for cameras and pipes.")
    elif args.mask and Path(args.mask).suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(
            f"A camera or pipe takes one image as --mask, or --box or --alpha_mask, not '{args.mask}'."
        )


def _box(text: str) -> tuple[float, ...]:
    try:
        x0, y0, x1, y1 = map(float, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not X0,Y0,X1,Y1") from None
    return x0, y0, x1, y1
