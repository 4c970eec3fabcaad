"""Shadows and reflections of removed things: what is found, and how dark their places still are after removal.

    python benchmarks/effects.py --videos FOLDER --labels FOLDER
    python benchmarks/effects.py --videos FOLDER --made

`--labels` holds `index.json` and NAME.npz with `frames`, `masks` and `shadow` of a few frames of each thing, drawn by
hand; the object's masks in between are interpolated. Darkening: 1 - result / plate over the marked shadow, where the
plate is what a tenth of the frames exceed there, in the exposure of the frame. Left outside: the same if the hole were
filled with that plate, which is what the search itself leaves. False area: what is added in clips where a drawn figure
stands for the object, so that nothing casts a shadow.

Made: a small patterned figure walks through real footage with a soft shadow, or mirrored in the ground; what was there
is known. Left: how far from it the result is in the shadow, with the search and without it. "none" casts no shadow:
whatever is found is wrong.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
from cases import CLIPS, KINDS, Clip, draw_figure, draw_masks, read_clip

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
        dark, outside = [], []
        for number, shadow in zip(numbers, marks["shadow"]):
            i = number - numbers[0]
            known = ~masks[i] & (plate.min(axis=-1) > 16)
            place = smaller(shadow) & known
            # The plate in the light of this frame: cameras expose anew when a thing moves.
            light = np.median(soft[i][known & ~place] / plate[known & ~place], axis=0)
            after = cv2.GaussianBlur(result.frames[i], (0, 0), 1.5)[place]
            dark.append(1 - float(np.mean(after / (light * plate[place]))))
            kept = 1 - soft[i][place] / (light * plate[place])
            outside.append(float(np.mean(kept * ~result.holes[i][place][:, None])))
        cells.append("/".join(f"{d:.3f}" for d in dark))
    cells.append("/".join(f"{d:.3f}" for d in outside))
    share = 0 if result.effects is None else result.effects.share()
    return f"| {thing['name']} | {cells[0]} | {cells[1]} | {cells[2]} | {100 * share:.2f} % |"


def false_area(clip, videos: Path, frames: int) -> str:
    video = read_clip(videos, clip, frames, (240, 432))
    cells = []
    for kind in KINDS:
        masks = MaskTrack.from_array(draw_masks(kind, clip.name, len(video), (240, 432)))
        start = time.process_time()
        found = find_effects(ArraySource(video), masks)
        seconds = (time.process_time() - start) / len(video)
        cells.append(f"{0 if found is None else 100 * found.share():.2f} %")
    return f"| {clip.name} | {' | '.join(cells)} | {seconds:.3f} |"


MADE = (
    Clip("vtest-later", "vtest.avi", 400),
    Clip("tree", "tree.avi", 20),
    Clip("cup-end", "cup.mp4", 150),
    Clip("bikes-b", "bikes.mp4", 190),
    Clip("bigbuckbunny-late", "bigbuckbunny.mp4", 70),
    Clip("realshort", "realshort.mp4", 2),
)


def made(clip: Clip, kind: str, videos: Path, frames: int, engine: str) -> str:
    """``kind``: "soft" and "faint", shadows that lack 45 and 20 per cent of the light, "mirror", or "none"."""
    truth = read_clip(videos, clip, frames, (240, 432))
    n, h, w = truth.shape[:3]
    rng = np.random.default_rng(11)
    pattern = cv2.resize(rng.uniform(20, 235, (12, 12, 3)).astype(np.float32), (w, h), interpolation=0)
    video, masks, places = truth.copy(), np.zeros((n, h, w), bool), np.zeros((n, h, w), bool)
    for t in range(n):
        x, foot, tall = w * (0.2 + 0.5 * t / n), 0.72 * h, 0.4 * h
        figure = np.zeros((h, w), np.uint8)
        draw_figure(figure, x, foot, tall, 0.35 * tall, 0.45 * t)
        light = (truth[t] / 255.0) ** 2.2
        shift = np.float32([[1, 0, x - 0.2 * w], [0, 1, 0]])
        coat = cv2.warpAffine(pattern, shift, (w, h), borderMode=cv2.BORDER_WRAP)
        if kind == "mirror":
            pose = np.float32([[1, 0, 0], [0, -1, 2 * foot]])
            shade = cv2.warpAffine(figure, pose, (w, h)).astype(np.float32)
            image = cv2.warpAffine(coat, pose, (w, h), borderMode=cv2.BORDER_REFLECT)
            light += 0.35 * shade[..., None] * ((image / 255) ** 2.2 - light)
        elif kind == "none":
            shade = np.zeros((h, w), np.float32)
        else:
            # Flat on the ground, to the right and away from the viewer.
            pose = np.float32([[1, -0.9, 0.9 * foot], [0, 0.3, 0.7 * foot]])
            shade = cv2.GaussianBlur(
                cv2.warpAffine(figure.astype(np.float32), pose, (w, h)), (0, 0), 3 if kind == "soft" else 2
            )
            light *= 1 - (0.45 if kind == "soft" else 0.2) * shade[..., None] * np.float32([1, 0.97, 0.9])
        video[t] = np.clip(255 * light ** (1 / 2.2) + rng.normal(0, 1, light.shape), 0, 255)
        masks[t] = figure > 0
        video[t][masks[t]] = coat[masks[t]]
        places[t] = (shade > 0.15) & ~masks[t]
    start = time.process_time()
    found = find_effects(ArraySource(video), MaskTrack.from_array(masks))
    seconds = (time.process_time() - start) / n
    found = np.zeros_like(masks) if found is None else np.stack(list(found))
    near = np.stack([cv2.dilate(p.view(np.uint8), np.ones((17, 17), np.uint8)) for p in places]).view(bool)
    cells = [
        f"{100 * (found & places).sum() / places.sum():.0f} %" if places.any() else "",
        f"{100 * (found & ~near & ~masks).mean():.2f} %",
    ]
    if engine != "none":
        left = []
        for effects in ("off", "auto"):
            result = inpaint_video(video, masks=masks, engine=engine, effects=effects)
            off = cv2.absdiff(result.frames, truth)[places if places.any() else masks].mean()
            left.append(f"{off:.1f}")
        cells.append(" | ".join(left))
    return f"| {clip.name} | {kind} | {' | '.join(cells)} | {seconds:.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, required=True, help="folder with the clips")
    parser.add_argument("--labels", type=Path, help="folder with index.json and the drawn shadows")
    parser.add_argument("--names", help="only these things, by comma")
    parser.add_argument("--engine", default="propagation", help="none: only the search, with --made")
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--made", action="store_true", help="figures drawn into the clips, and nothing else")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    if args.made:
        print(
            "| clip | kind | found | beside it | left without | left with | s a frame |\n|---|---|---|---|---|---|---|"
        )
        for clip in MADE:
            for kind in ("soft", "faint", "mirror", "none"):
                print(made(clip, kind, args.videos, args.frames, args.engine), flush=True)
        return
    if args.labels:
        print(
            "| thing | darkening without | with | left outside | added to the hole |\n|---|---|---|---|---|"
        )
        for thing in json.loads((args.labels / "index.json").read_text())["objects"]:
            if "shadow" in thing.get("extra", ()) and (
                not args.names or thing["name"] in args.names.split(",")
            ):
                print(labelled(thing, args.videos, args.labels, args.engine), flush=True)
    print("| clip without a shadow | moving figure | rectangle | text | s a frame |\n|---|---|---|---|---|")
    for clip in CLIPS:
        print(false_area(clip, args.videos, args.frames), flush=True)


if __name__ == "__main__":
    main()
