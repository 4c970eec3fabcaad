"""`python -m videopainter.dstt.run_onnx`: an exported network where there is no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

from videopainter.cli import errors
from videopainter.cli.parser import Parser


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Returns the exit status; see `errors`."""
    parser = Parser(
        prog=prog or "python -m videopainter.dstt.run_onnx",
        description="Run an exported network without PyTorch: onnxruntime, NumPy and OpenCV are all it takes.",
    )
    parser.add_argument("--network", required=True, help="a file of videopainter.dstt.export")
    parser.add_argument("--source", required=True, help="a video, or the number of a camera")
    parser.add_argument("--mask", required=True, help="one image, or a video: brighter than 127 is repainted")
    parser.add_argument("--output", required=True, help="the video to write: .mp4, or .avi without loss")
    parser.add_argument("--threads", type=int, help="of the network (default: one for every core)")
    args = parser.parse_args(argv)

    def work() -> None:
        from videopainter.dstt.run_onnx import paint

        count = paint(args.network, args.source, args.mask, args.output, args.threads)
        print(f"{count} frames are written to {args.output}.")

    return errors.run(work, prog or "run_onnx", vars(args))
