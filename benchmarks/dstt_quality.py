"""DSTT on shots that its training never saw, beside every causal baseline and the engine that may look ahead.

    python benchmarks/dstt_quality.py --videos FOLDER --output benchmarks/results/dstt_quality.md

Masks are drawn over untouched video (`cases.py`), so that the truth in the hole is known; the hole is painted magenta
before a method sees it. Every number is from the same run. The shots are fixed here, before the training.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from cases import CLIPS, draw_masks, read_clip
from machine import processor

from videopainter import metrics
from videopainter.dstt.align import History, MotionEstimator, preprocess
from videopainter.dstt.model import DSTT
from videopainter.dstt.stream import DSTTStream
from videopainter.dstt.training.validate import WithoutPrevious
from videopainter.dstt.weights import load_model
from videopainter.masks import MaskTrack
from videopainter.propagation import PropagationEngine
from videopainter.utils.size import parse_size
from videopainter.video import ArraySource

UNSEEN = ("realshort", "bikes-a", "bikes-b", "vtest", "cup", "tree")
KINDS = ("moving", "rectangle")


def telea(frames, masks):
    return [cv2.inpaint(f, m.view(np.uint8), 3, cv2.INPAINT_TELEA) for f, m in zip(frames, masks)]


def harmonic(frames, masks):
    return [_rounded(preprocess(f, m).frame) for f, m in zip(frames, masks)]


def _rounded(values):
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def copy_previous(frames, masks):
    """The hole's pixels from the previous output, in place; the first frame is filled smoothly."""
    out = [harmonic(frames[:1], masks[:1])[0]]
    for frame, mask in zip(frames[1:], masks[1:]):
        out.append(np.where(mask[..., None], out[-1], frame))
    return out


def copy_aligned(frames, masks):
    """The same, the previous output moved to where things are now; what comes from outside is filled smoothly."""
    follow, history, before, out = MotionEstimator(), History(), None, []
    for frame, mask in zip(frames, masks):
        now = preprocess(frame, mask)
        field = None if before is None else follow(now, before)
        past = history.aligned(field, mask.shape) if field is not None else None
        fill = now.frame if past is None else np.where(past.valid[..., None] > 0, past.output, now.frame)
        result = np.where(mask[..., None], fill, frame).astype(np.float32)
        history.update(result, np.ones(mask.shape, np.float32), past, mask)
        before = now
        out.append(_rounded(result))
    return out


def propagation(frames, masks):
    return list(PropagationEngine()(ArraySource(frames), MaskTrack.from_array(masks)))


class Streamed:
    """A network as a method."""

    def __init__(self, model, kind: type[DSTTStream] = DSTTStream):
        self.model, self.kind = model, kind

    def __call__(self, frames, masks):
        stream = self.kind(self.model)
        return [stream(f, m) for f, m in zip(frames, masks)]


class WithoutTokens(torch.nn.Module):
    """The network with an empty memory in every frame."""

    def __init__(self, model):
        super().__init__()
        self.model, self.config = model, model.config

    def forward(self, frame, mask, previous, maps, memory):
        output, share, _ = self.model(frame, mask, previous, maps, torch.zeros_like(memory))
        return output, share, memory


def methods(models: dict[str, Path | None]) -> dict:
    """Name -> function of masked frames and masks."""
    ours = load_model(models["dstt"])
    out = {
        "telea": telea,
        "harmonic": harmonic,
        "copy": copy_previous,
        "aligned copy": copy_aligned,
        "untrained": Streamed(DSTT(ours.config)),
        "dstt": Streamed(ours),
        "dstt, memory off": Streamed(WithoutTokens(ours)),
        "dstt, previous off": Streamed(ours, WithoutPrevious),
    }
    for name, path in models.items():
        if name != "dstt":
            out[name] = Streamed(load_model(path), WithoutPrevious if "no previous" in name else DSTTStream)
    out["propagation"] = propagation
    return out


def score(method, frames, masks) -> tuple[dict, np.ndarray]:
    masked = frames.copy()
    masked[masks] = (255, 0, 255)
    result = np.stack(method(masked, masks))
    pooled, mean = metrics.psnr(result, frames, masks)
    second = slice(len(frames) // 2, None)
    late, _ = metrics.psnr(result[second], frames[second], masks[second])
    row = {
        "psnr": pooled,
        "psnr_frames": mean,
        "psnr_late": late,
        "ssim": metrics.ssim(result, frames, masks),
        "e_warp": metrics.e_warp(result, frames, masks) * 1e3,
    }
    return row, result


def strip(frames, masks, results: dict[str, np.ndarray], count: int = 5) -> np.ndarray:
    """Rows: what went in, some methods, the truth; columns: frames. uint8 RGB."""
    chosen = np.linspace(0, len(frames) - 1, count).astype(int)
    masked = frames.copy()
    masked[masks] = (255, 0, 255)
    return np.vstack([np.hstack(list(row[chosen])) for row in (masked, *results.values(), frames)])


def table(rows: list[dict], names: list[str]) -> list[str]:
    out = ["| hole | shot | frames | " + " | ".join(names) + " |", "|---" * (3 + len(names)) + "|"]
    for kind in KINDS:
        of = [r for r in rows if r["kind"] == kind]
        for r in of:
            cells = [f"{r[n]['psnr']:.1f} / {r[n]['psnr_frames']:.1f} / {r[n]['e_warp']:.2f}" for n in names]
            out.append(f"| {kind} | {r['clip']} | {r['frames']} | " + " | ".join(cells) + " |")
        means = [
            " / ".join(
                f"{np.mean([r[n][key] for r in of]):.2f}"
                for key in ("psnr", "psnr_frames", "psnr_late", "e_warp")
            )
            for n in names
        ]
        out.append(f"| {kind} | **mean** (with second half) | | " + " | ".join(means) + " |")
    return out


def _given(args) -> list[str]:
    """The command line, without where things lie on this machine."""
    places = [(args.videos, "FOLDER"), (args.strips, "FOLDER"), (args.weights, "FILE"), (args.output, "FILE")]
    places += [(pair.split("=", 1)[1], "FILE") for pair in args.also]
    given = sys.argv[1:]
    for place, word in places:
        given = [a.replace(str(place), word) if place else a for a in given]
    return [f'"{a}"' if " " in a else a for a in given]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, required=True, help="folder with the clips named in cases.py")
    parser.add_argument("--weights", type=Path, help="instead of the shipped ones")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=FILE", help="other networks")
    parser.add_argument("--clips", default=",".join(UNSEEN))
    parser.add_argument("--frames", type=int, default=60, help="at most")
    parser.add_argument("--size", type=parse_size, default=(120, 216), help="WIDTHxHEIGHT (default: 216x120)")
    parser.add_argument("--strips", type=Path, help="folder for film strips")
    parser.add_argument("--output", type=Path, help="write the table here, and the numbers beside it as JSON")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    height, width = args.size
    also = dict(pair.split("=", 1) for pair in args.also)
    todo = methods({"dstt": args.weights, **{name: Path(path) for name, path in also.items()}})
    rows = []
    for kind in KINDS:
        for clip in (c for c in CLIPS if c.name in args.clips.split(",")):
            frames = read_clip(args.videos, clip, args.frames, (height, width))
            masks = draw_masks(kind, clip.name, len(frames), (height, width))
            row, results = {"kind": kind, "clip": clip.name, "frames": len(frames)}, {}
            for name, method in todo.items():
                row[name], results[name] = score(method, frames, masks)
            print(kind, clip.name, {name: round(row[name]["psnr"], 2) for name in todo}, flush=True)
            rows.append(row)
            if args.strips:
                args.strips.mkdir(parents=True, exist_ok=True)
                shown = {n: results[n] for n in ("telea", "copy", "dstt", "propagation")}
                picture = strip(frames, masks, shown)
                cv2.imwrite(str(args.strips / f"{kind}-{clip.name}.png"), picture[..., ::-1])
    text = table(rows, list(todo))
    print("\n".join(text))
    if args.output:
        given = _given(args)
        head = (
            f"# DSTT with memory on unseen shots\n\n{processor()}, Python {platform.python_version()}, "
            f"PyTorch {torch.__version__}, OpenCV {cv2.__version__}\n\n"
            f"`python benchmarks/dstt_quality.py {' '.join(given)}`\n\n"
            "Cells: PSNR in the hole pooled over the shot / mean of its frames / E_warp x 1e-3. In the means also the "
            "pooled PSNR of the second half of each shot, third.\n"
        )
        args.output.write_text("\n".join([head, *text]) + "\n")
        args.output.with_suffix(".json").write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
