"""`python -m videopainter.dstt.export`: the network of DSTT as ONNX, torch.export or TorchScript."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from videopainter.cli import errors
from videopainter.cli.parser import Parser
from videopainter.utils.size import parse_size

SUFFIXES = (".onnx", ".pt2", ".ts", ".pt")


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Returns the exit status; see `errors`. 1 if the file differs from PyTorch."""
    args = build_parser(prog or "python -m videopainter.dstt.export").parse_args(argv)
    return errors.run(lambda: _export(args), prog or "export", vars(args))


def build_parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(
        prog=prog,
        description="Write the network as ONNX, torch.export program or TorchScript.",
    )
    parser.add_argument(
        "--output",
        required=True,
        help="the file: .onnx, .pt2 for torch.export, or .ts or .pt for TorchScript",
    )
    parser.add_argument("--weights", help="a .safetensors file of ours (default: the shipped one)")
    parser.add_argument(
        "--size",
        type=partial(parse_size, least=8),
        metavar="WxH",
        help="of its pictures (default: the network's own)",
    )
    parser.add_argument("--frames", type=int, default=20, help="compared with PyTorch (default: %(default)s)")
    parser.add_argument("--clip", help="the video they are from (default: one that comes with the network)")
    parser.add_argument("--streams", type=int, default=4, help="at most, for TensorRT (default: %(default)s)")
    return parser


def _export(args: argparse.Namespace) -> int:
    from videopainter.dstt import export
    from videopainter.dstt.runner import Runner, TorchRunner
    from videopainter.dstt.runner_onnx import OnnxRunner
    from videopainter.dstt.runner_program import ProgramRunner
    from videopainter.dstt.weights import load_model

    suffix = Path(args.output).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(
            f"The output ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, unlike '{args.output}'."
        )
    for name in ("frames", "streams"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} is 1 or more, not {getattr(args, name)}.")
    clip = export.real_clip(args.clip or export.CLIP, args.frames)
    model = load_model(args.weights)
    write = {".onnx": export.export_onnx, ".pt2": export.export_program}.get(
        suffix, export.export_torchscript
    )
    write(model, args.output, args.size)
    if suffix == ".onnx":
        exported: Runner = OnnxRunner(args.output, device="cpu")
    else:  # written just now, by ourselves
        exported = ProgramRunner(args.output, device="cpu", allow_code=True)
    model.config = exported.config
    found = export.compare(TorchRunner(model), exported, *clip)
    height, width = exported.config.size
    print(f"Written to {args.output}: pictures of {width} x {height}, any number of streams.")
    print(f"Largest difference to PyTorch over {found}.")
    if suffix == ".onnx":
        print(f"For TensorRT:\n{export.trtexec(args.output, exported.config, args.streams)}")
    if max(found.output, found.share, found.memory) <= export.TOLERANCE:
        return errors.OK
    errors.fail("export", f"'{args.output}' differs by more than {export.TOLERANCE}.")
    return errors.FAILED
