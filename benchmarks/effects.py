"""Shadows of removed things: what is found, and how dark their places still are after removal.

    python benchmarks/effects.py --videos FOLDER --labels FOLDER

`--labels` holds `index.json` and NAME.npz with `frames`, `masks` and `shadow` of a few frames of each thing, drawn by
hand; the object's masks in between are interpolated. Darkening: 1 - result / plate over the marked shadow, where the
plate is what a tenth of the frames exceed there. False area: what is added in clips where a drawn figure stands for the
object, so that nothing casts a shadow.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
from cases import CLIPS, draw_masks, read_clip

from videopainter import inpaint_video
from videopainter.masks import MaskTrack
from videopainter.steps.effects import find_effects
from videopainter.video import ArraySource, open_video


def distance(mask: np.ndarray) -> np.ndarray:
    """Pixels to the edge, positive inside."""
    inside, outside = mask.astype(np.uint8), (~mask).astype(np.uint8)
    return cv2.distanceTransform(inside, cv2.DIST_L2, 3) - cv2.distanceTransform(outside, cv2.DIST_L2, 3)


def moved(plane: np.ndarray, shift) -> np.ndarray:
    pose = np.float32([[1, 0, shift[1]], [0, 1, shift[0]]])
    return cv2.warpAffine(plane, pose, plane.shape[::-1], borderMode=cv2.BORDER_REPLICATE)


def between(numbers, masks) -> np.ndarray:
    """Masks of every frame from the first labelled one to the last: edges and middles interpolated."""
    edges, middles = [distance(m) for m in masks], [np.argwhere(m).mean(axis=0) for m in masks]
    out = []
    for i in range(numbers[0], numbers[-1] + 1):
        k = min(int(np.searchsorted(numbers, i, side="right")) - 1, len(numbers) - 2)
        u = (i - numbers[k]) / (numbers[k + 1] - numbers[k])
        middle = (1 - u) * middles[k] + u * middles[k + 1]
        first, last = moved(edges[k], middle - middles[k]), moved(edges[k + 1], middle - middles[k + 1])
        out.append((1 - u) * first + u * last > -1)
    return np.stack(out)


def smaller(picture: np.ndarray) -> np.ndarray:
    if picture.dtype == bool:
        return cv2.resize(picture.astype(np.uint8), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_NEAREST) > 0
    return cv2.resize(picture, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def labelled(thing: dict, videos: Path, labels: Path, engine: str) -> str:
    marks = np.load(labels / f"{thing['name']}.npz")
    numbers = [int(i) for i in marks["frames"]]
    with open_video(videos / thing["clip"]) as source:
        frames = np.stack([smaller(source[i]) for i in range(numbers[0], numbers[-1] + 1)])
    masks = between(numbers, [smaller(m) for m in marks["masks"]])
    soft = np.stack([cv2.GaussianBlur(f, (0, 0), 1.5) for f in frames]).astype(np.float32)
    soft[masks] = 0
    plate = np.percentile(soft, 90, axis=0)
    cells = []
    for effects in ("off", "auto"):
        result = inpaint_video(frames, masks=masks, engine=engine, effects=effects)
        dark = []
        for number, shadow in zip(numbers, marks["shadow"]):
            i = number - numbers[0]
            place = smaller(shadow) & ~masks[i] & (plate.min(axis=-1) > 16)
            dark.append(
                1 - float(np.mean(cv2.GaussianBlur(result.frames[i], (0, 0), 1.5)[place] / plate[place]))
            )
        cells.append("/".join(f"{d:.3f}" for d in dark))
    share = 0 if result.effects is None else result.effects.share()
    return f"| {thing['name']} | {cells[0]} | {cells[1]} | {100 * share:.2f} % |"


def false_area(clip, videos: Path, frames: int) -> str:
    video = read_clip(videos, clip, frames, (240, 432))
    cells = []
    for kind in ("moving", "rectangle"):
        masks = MaskTrack.from_array(draw_masks(kind, clip.name, len(video), (240, 432)))
        start = time.process_time()
        found = find_effects(ArraySource(video), masks)
        seconds = (time.process_time() - start) / len(video)
        cells.append(f"{0 if found is None else 100 * found.share():.2f} %")
    return f"| {clip.name} | {' | '.join(cells)} | {seconds:.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, required=True, help="folder with the clips")
    parser.add_argument("--labels", type=Path, help="folder with index.json and the drawn shadows")
    parser.add_argument("--names", help="only these things, by comma")
    parser.add_argument("--engine", default="propagation")
    parser.add_argument("--frames", type=int, default=30)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    if args.labels:
        print("| thing | darkening without | with | added to the hole |\n|---|---|---|---|")
        for thing in json.loads((args.labels / "index.json").read_text())["objects"]:
            if "shadow" in thing.get("extra", ()) and (
                not args.names or thing["name"] in args.names.split(",")
            ):
                print(labelled(thing, args.videos, args.labels, args.engine), flush=True)
    print("| clip without a shadow | moving figure | rectangle | s a frame |\n|---|---|---|---|")
    for clip in CLIPS:
        print(false_area(clip, args.videos, args.frames), flush=True)


if __name__ == "__main__":
    main()
