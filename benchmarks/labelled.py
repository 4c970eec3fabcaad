"""Measure click-to-mask on hand-labelled things of real clips.

    python benchmarks/labelled.py --labels DIR --videos DIR [--segmenter clicks] [--before FILE.json] [--output FILE]

`DIR/index.json` names the things, their clip, first frame and clicks; `DIR/NAME.npz` holds `frames`, `masks` and where
it applies `alt` (an equally good reading) and `ignore`. Each thing is selected by its first click alone and by all its
clicks, and followed to its last labelled frame. Printed: IoU in the clicked frame, its mean over the labelled frames
after one click and after all, boundary F (2 px), the share that is covered after 6 px of dilation, CPU seconds for the
click and a frame. Where there are two readings, each run is measured against the one with the better mean.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: cost is measured on one thread

import cv2  # noqa: E402
import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from machine import processor  # noqa: E402

from videopainter.segmentation import SEGMENTERS, ClickPrompt, choose_segmenter  # noqa: E402
from videopainter.video import ArraySource, open_video  # noqa: E402

COLUMNS = ("clicked", "one", "all", "F", "recall", "click_s", "frame_s")
HEAD = "| thing | clicked | one click | all clicks | boundary F | recall 6 px | s a click | s a frame |"


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two bool masks; 1 where both are empty."""
    either = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / either if either else 1.0


def edge(mask: np.ndarray) -> np.ndarray:
    """Pixels of the mask beside one outside it; the frame's border is no boundary."""
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    return mask & (cv2.erode(padded, np.ones((3, 3), np.uint8))[1:-1, 1:-1] == 0)


def grown(mask: np.ndarray, radius: int) -> np.ndarray:
    """The mask after a dilation by a disc."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1,) * 2)
    return cv2.dilate(mask.astype(np.uint8), disc) > 0


def boundary_f(mask: np.ndarray, truth: np.ndarray, tolerance: int = 2) -> float:
    """How much of each outline lies within `tolerance` pixels of the other one."""
    a, b = edge(mask), edge(truth)
    if not a.any() or not b.any():
        return float(a.any() == b.any())
    precision = np.count_nonzero(a & grown(b, tolerance)) / np.count_nonzero(a)
    recall = np.count_nonzero(b & grown(a, tolerance)) / np.count_nonzero(b)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def follow(frames: np.ndarray, clicks, segmenter: str):
    """The masks bool (n, h, w), CPU seconds until the first one and for each of the others."""
    source = ArraySource(frames)
    found, first = np.zeros(frames.shape[:3], bool), None
    began = time.process_time()
    for step in choose_segmenter(segmenter)[0].kind(source).track(clicks):
        first = first or time.process_time() - began
        found[step.frame] = step.mask
    return found, first, (time.process_time() - began - first) / max(len(frames) - 1, 1)


def measure(item: dict, labels: dict, frames: np.ndarray, segmenter: str, first_only: bool) -> dict:
    """One thing's row, and its masks after the first click as `found`."""
    start, at = item["start"], [int(f) - item["start"] for f in labels["frames"]]
    unsure = labels["ignore"] > 0 if "ignore" in labels else np.zeros(labels["masks"].shape, bool)
    readings = [(labels[key] > 0) & ~unsure for key in ("masks", "alt") if key in labels]
    clicks = [
        ClickPrompt(x, y, f - start, bool(on)) for x, y, f, on in item["clicks"] if f - start < len(frames)
    ]

    def against(found):
        seen = [found[i] & ~unclear for i, unclear in zip(at, unsure)]
        truth = max(readings, key=lambda one: np.mean([iou(*pair) for pair in zip(seen, one)]))
        return seen, truth, float(np.mean([iou(*pair) for pair in zip(seen, truth)]))

    found, click_s, frame_s = follow(frames, clicks[:1], segmenter)
    seen, truth, one = against(found)
    every = one
    if first_only:
        every = float("nan")
    elif len(clicks) > 1:
        every = against(follow(frames, clicks, segmenter)[0])[2]
    covered = [np.count_nonzero(grown(m, 6) & t) / max(np.count_nonzero(t), 1) for m, t in zip(seen, truth)]
    return {
        "name": item["name"],
        "clicked": max(iou(seen[at.index(0)], reading[at.index(0)]) for reading in readings),
        "one": one,
        "all": every,
        "F": float(np.mean([boundary_f(*pair) for pair in zip(seen, truth)])),
        "recall": float(np.mean(covered)),
        "click_s": click_s,
        "frame_s": frame_s,
        "found": (at, seen, truth),
    }


def line(row: dict) -> str:
    return f"| {row['name']} | " + " | ".join(f"{row[key]:.3f}" for key in COLUMNS).replace("nan", "-") + " |"


def sheet(frames: np.ndarray, found, size: int = 260) -> np.ndarray:
    """The labelled frames, cut to the thing: the mask in red, the truth's outline in yellow; uint8 BGR."""
    tiles = []
    for i, mask, truth in zip(*found):
        view = frames[i][..., ::-1].copy()
        view[mask] = (0.5 * view[mask] + [0, 0, 127]).astype(np.uint8)
        outline, _ = cv2.findContours(truth.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(view, outline, -1, (0, 255, 255), 1)
        x, y, w, h = cv2.boundingRect((mask | truth).astype(np.uint8))
        room = 12 + max(w, h) // 6
        view = view[max(y - room, 0) : y + h + room, max(x - room, 0) : x + w + room]
        scale = size / max(view.shape[:2])
        view = cv2.resize(view, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        tile = np.zeros((size, size, 3), np.uint8)
        tile[: view.shape[0], : view.shape[1]] = view[:size, :size]
        tiles.append(tile)
    return np.hstack((tiles + [np.zeros_like(tiles[0])] * 4)[:4])


def report(rows: list[dict], before: list[dict] | None, segmenter: str) -> str:
    """The results as Markdown."""
    mean = {"name": "**mean**", **{key: float(np.mean([r[key] for r in rows])) for key in COLUMNS}}
    text = f"# Click to mask on {len(rows)} hand-labelled things\n\n"
    text += f"`python benchmarks/labelled.py --labels DIR --videos DIR --segmenter {segmenter}`\n\n"
    text += f"{processor()}, OpenCV {cv2.__version__}; CPU seconds of all threads\n\n"
    text += "\n".join([HEAD, "|" + "---|" * 8, *map(line, rows), line(mean)]) + "\n"
    text += f"\n{sum(r['clicked'] >= 0.8 for r in rows)} of {len(rows)} at 0.8 or more in the clicked frame, "
    text += f"{sum(r['one'] >= 0.8 for r in rows)} over the labelled frames; "
    text += f"lowest {min(r['clicked'] for r in rows):.2f} and {min(r['one'] for r in rows):.2f}.\n"
    if before:
        known = {row["name"]: row for row in before}
        text += "\n## Before\n\n| thing | clicked | one click | all clicks |\n|---|---|---|---|\n"
        old = [known[row["name"]] for row in rows if row["name"] in known]
        old.append({"name": "**mean**", **{k: float(np.mean([r[k] for r in old])) for k in COLUMNS[:3]}})
        text += (
            "\n".join(f"| {r['name']} | {r['clicked']:.3f} | {r['one']:.3f} | {r['all']:.3f} |" for r in old)
            + "\n"
        )
    return text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--labels", type=Path, required=True, help="folder with index.json and the labels")
    parser.add_argument("--videos", type=Path, required=True, help="folder with the clips")
    parser.add_argument("--segmenter", default="clicks", choices=list(SEGMENTERS))
    parser.add_argument("--only", nargs="*", help="names of things (default: all)")
    parser.add_argument("--first_only", action="store_true", help="leave out the runs with all clicks")
    parser.add_argument(
        "--before", type=Path, help="JSON of a former run, or of score_clicks.py, to show beside"
    )
    parser.add_argument("--output", type=Path, help="write OUTPUT.json and OUTPUT.md")
    parser.add_argument("--sheets", type=Path, help="folder for pictures of the masks")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    rows = []
    for item in json.loads((args.labels / "index.json").read_text())["objects"]:
        if args.only and item["name"] not in args.only:
            continue
        with np.load(args.labels / f"{item['name']}.npz") as content:
            labels = dict(content)
        with open_video(args.videos / item["clip"]) as clip:
            frames = np.stack(list(clip[item["start"] : int(max(labels["frames"])) + 1]))
        rows.append(measure(item, labels, frames, args.segmenter, args.first_only))
        print(line(rows[-1]), flush=True)
        found = rows[-1].pop("found")
        if args.sheets:
            args.sheets.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(args.sheets / f"{item['name']}.png"), sheet(frames, found))
    before = json.loads(args.before.read_text()) if args.before else None
    text = report(rows, before, args.segmenter)
    print(text)
    if args.output:
        args.output.with_suffix(".json").write_text(json.dumps(rows, indent=1, default=float) + "\n")
        args.output.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
