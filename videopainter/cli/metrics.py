"""`videopainter metrics RESULTS GROUND_TRUTH MASKS`: a table, and CSV, of how good results are."""

from __future__ import annotations

import argparse
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

from videopainter.cli import errors
from videopainter.cli.parser import Parser
from videopainter.metrics.protocol import PROTOCOL
from videopainter.utils.size import parse_size


def build_parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(
        prog=prog,
        description="PSNR, SSIM, E_warp and VFID of inpainted clips, over the frame and in the hole.",
        epilog=f"{PROTOCOL}\nThe paper's table of VPBench or DAVIS: --benchmark vpbench --help\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("results", type=Path, metavar="RESULTS", help="the inpainted clips")
    parser.add_argument("truth", type=Path, metavar="GROUND_TRUTH", help="the true clips")
    parser.add_argument("masks", type=Path, metavar="MASKS", help="the holes")
    parser.add_argument(
        "--size",
        type=_size,
        default=(432, 240),
        metavar="WxH",
        help="what everything is resized to, or 'truth': the true frames' own (default: 432x240)",
    )
    parser.add_argument(
        "--resize",
        choices=("bicubic", "bilinear"),
        default="bicubic",
        help="of frames (default: %(default)s)",
    )
    parser.add_argument(
        "--dilate", type=_whole, default=0, metavar="PIXELS", help="grow the masks (default: %(default)s)"
    )
    parser.add_argument("--clips", metavar="A,B,...", help="only these; or a file with a name on each line")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table there, too")
    parser.add_argument(
        "--ssim_window",
        type=_whole,
        default=65,
        metavar="PIXELS",
        help="for frames smaller than 65 x 65 (default: %(default)s, as published)",
    )
    parser.add_argument("--i3d", type=Path, metavar="FILE", help="weights of I3D: measure VFID as well")
    parser.add_argument(
        "--i3d_statistics",
        choices=("stored", "clip"),
        default="stored",
        help="of batch normalisation (default: %(default)s)",
    )
    parser.add_argument("--device", default="cpu", help="where I3D runs, such as cuda (default: %(default)s)")
    return parser


def main(argv: list[str] | None = None, prog: str = "videopainter.metrics") -> int:
    """Returns the exit status; see `errors`. With --benchmark it is `benchmark.main`."""
    given = sys.argv[1:] if argv is None else argv
    if any(one.partition("=")[0] == "--benchmark" for one in given):
        from videopainter.cli.benchmark import main as benchmark

        return benchmark(given, prog)
    args = build_parser(prog).parse_args(argv)
    return errors.run(lambda: run(args), prog, vars(args), "Stopped; nothing is written.")


def run(args: argparse.Namespace) -> None:
    """Measure, print and write."""
    from tqdm import tqdm

    if find_spec("skimage") is None:
        raise ValueError("SSIM needs scikit-image; the extra [metrics] has it.")
    from videopainter.metrics.evaluate import FLOW, count_frames, evaluate, table, write_csv
    from videopainter.metrics.layout import find_clips

    warnings.simplefilter("ignore")  # a damaged video is short, which is an error here
    if args.csv is not None and not args.csv.absolute().parent.is_dir():
        raise ValueError(f"There is no folder '{args.csv.absolute().parent}' to write '{args.csv.name}' in.")
    if args.csv is not None and args.csv.is_dir():
        raise ValueError(f"'{args.csv}' is a folder, not a file to write.")
    clips = find_clips(args.results, args.truth, args.masks, args.clips and _names(args.clips))
    features = None
    if args.i3d is not None:
        features = _features(args.i3d, args.i3d_statistics, args.device)
    with tqdm(
        total=count_frames(clips, features is not None), unit="frame", file=sys.stderr, disable=None
    ) as bar:

        def progress(name: str, count: int) -> None:
            bar.set_description(name, refresh=False)
            bar.update(count)

        report = evaluate(
            clips, args.size, args.resize, args.dilate, args.ssim_window, features=features, progress=progress
        )
    settings = {
        "size": "truth" if args.size is None else "x".join(map(str, args.size)),
        "resize": args.resize,
        "dilate": args.dilate,
        "ssim_window": args.ssim_window,
        "flow": FLOW,
        "i3d_statistics": args.i3d_statistics if features else "",
    }
    print(table(report))
    print("PSNR in dB, E_warp x 1e-3. " + ", ".join(f"{k} {v}" for k, v in settings.items() if v != ""))
    if args.csv is not None:
        write_csv(args.csv, report, settings)


def _features(path: Path, statistics: str, device: str):
    try:
        from videopainter.metrics.vfid import VideoFeatures, load_i3d
    except ImportError as error:
        raise ValueError(f"VFID needs PyTorch ({error}); the extra [diffusion] has it.") from error
    try:
        return VideoFeatures(load_i3d(path), statistics, device)
    except (RuntimeError, AssertionError) as error:  # no such device, or none that works
        raise ValueError(f"I3D cannot run on '{device}': {errors.sentence(error)}") from error


def _names(text: str) -> list[str]:
    """The clips that `--clips` names."""
    path = Path(text)
    names = path.read_text().splitlines() if path.is_file() else text.split(",")
    return [name.strip() for name in names if name.strip()]


def _size(text: str) -> tuple[int, int] | None:
    if text == "truth":
        return None
    try:
        return parse_size(text)[::-1]
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"'{text}' is neither WIDTHxHEIGHT, such as 432x240, nor truth"
        ) from None


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 0 on")
    return int(text)
