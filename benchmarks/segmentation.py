"""Measure click-to-mask tracking on composited clips whose true masks are known, or on hand-labelled things.

    python benchmarks/segmentation.py --videos DIR [--seeds 3] [--segmenter clicks] [--before FILE.json] [--output FILE]
    python benchmarks/segmentation.py --videos DIR --labels DIR --segmenter clicks [--before FILE.json] [--output FILE]

With `--labels` it is `labelled.py`: real things, clicked by a person. Without:

A textured walking figure with swinging arms and legs is pasted in motion into real clips. One click on its torso in
the first frame has to give its mask in all 36. Everything drawn depends only on the clip's name and the seed.
`--before` shows the means of a former run, of another segmenter perhaps, below each table. `--held_out N` adds N more
walkers a clip, from seed 3 on, clicked with 4 px of jitter.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import zlib
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: cost is measured on one thread

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from machine import processor  # noqa: E402

from videopainter.segmentation import SEGMENTERS, ClickPrompt, track  # noqa: E402
from videopainter.video import ArraySource, open_video  # noqa: E402

SIZE = (240, 432)  # height, width
FRAMES = 36
CLIPS = {  # name: file, first frame
    "realshort": ("realshort.mp4", 0),
    "bikes-137": ("bikes.mp4", 138),
    "bikes-187": ("bikes.mp4", 188),
    "bigbuckbunny": ("bigbuckbunny.mp4", 60),
    "vtest": ("vtest.avi", 100),
    "cup": ("cup.mp4", 40),
}
COLOURINGS = ("noise", "photo", "similar")


def read(folder: Path, name: str, frames: int = FRAMES) -> np.ndarray:
    """uint8 (frames, 240, 432, 3) RGB of a clip."""
    file, first = CLIPS[name]
    with open_video(folder / file) as source:
        return np.stack(
            [cv2.resize(f, SIZE[::-1], interpolation=cv2.INTER_AREA) for f in source[first : first + frames]]
        )


def textures(rng, colouring: str, clip: np.ndarray) -> list[np.ndarray]:
    """One uint8 (160, 160, 3) texture each for head, torso, arms and legs."""
    result = []
    place = rng.integers(0, [SIZE[0] - 60, SIZE[1] - 60])
    for part in range(4):
        if colouring == "photo":
            y, x = rng.integers(0, SIZE[0] - 50), rng.integers(0, SIZE[1] - 50)
            patch = cv2.resize(clip[-1, y : y + 50, x : x + 50], (160, 160), interpolation=cv2.INTER_CUBIC)
            result.append(patch)
            continue
        if colouring == "similar":  # the colours of one place of the background, a little shifted
            y, x = place
            base = clip[0, y : y + 60, x : x + 60].reshape(-1, 3).mean(0) + rng.normal(0, 14, 3)
        else:
            base = rng.uniform(20, 230, 3) if part else np.array([200, 150, 120.0]) * rng.uniform(0.4, 1.1)
        texture = np.zeros((160, 160, 3), np.float32)
        for cells, strength in ((6, 18), (20, 14), (70, 9)):
            noise = rng.normal(0, strength, (cells, cells, 1)) + rng.normal(
                0, strength / 4, (cells, cells, 3)
            )
            texture += cv2.resize(noise.astype(np.float32), (160, 160), interpolation=cv2.INTER_CUBIC)
        result.append(np.clip(base + texture, 0, 255).astype(np.uint8))
    return result


def compose(clip: np.ndarray, name: str, seed: int):
    """Paste a walker into uint8 (n, 240, 432, 3).

    Returns frames like `clip`, true masks bool (n, 240, 432), the torso's centre (x, y) in frame 0, and the
    colouring.
    """
    rng = np.random.default_rng(zlib.crc32(f"{name}/{seed}".encode()))
    colouring = COLOURINGS[(seed + zlib.crc32(name.encode())) % 3]
    skins = textures(rng, colouring, clip)
    n, tall = len(clip), rng.uniform(125, 187)
    heading = rng.choice([-1, 1])
    span = rng.uniform(0.3, 0.55) * SIZE[1]
    x_mid = SIZE[1] / 2 + rng.uniform(-0.08, 0.08) * SIZE[1]
    ground = rng.uniform(0.9, 0.98) * SIZE[0] if tall < 0.7 * SIZE[0] else 0.97 * SIZE[0]
    phase, period = rng.uniform(0, 6.28), rng.uniform(14, 24)
    stout = rng.uniform(0.19, 0.3)  # width of the torso
    growth = rng.uniform(-0.12, 0.12)
    frames, masks, first = [], [], None
    for t in range(n):
        s = t / (n - 1) - 0.5
        size = tall * (1 + growth * s)
        hip = np.array([x_mid + heading * span * s, ground - 0.47 * size])
        picture, alpha, torso = draw(hip, size, 6.283 * t / period + phase, heading, skins, stout)
        a = alpha[..., None]
        frames.append(np.round(clip[t] * (1 - a) + picture).astype(np.uint8))
        masks.append(alpha > 0.5)
        first = torso if first is None else first
    return np.stack(frames), np.stack(masks), first, colouring


def draw(hip, size, angle, heading, skins, stout):
    """The walker once: float32 picture (h, w, 3) times alpha, alpha (h, w) in 0..1, torso's centre (x, y)."""
    swing, bob = np.sin(angle), abs(np.cos(angle)) * 0.015 * size
    hip = hip - [0, bob]
    neck = hip + np.array([heading * 0.03, -0.32]) * size

    def limb(start, length, first, bend, width):
        a = np.pi / 2 - heading * first
        joint = start + length * 0.5 * np.array([np.cos(a), np.sin(a)])
        b = np.pi / 2 - heading * (first + bend)
        return [
            (start, joint, width),
            (joint, joint + length * 0.5 * np.array([np.cos(b), np.sin(b)]), width * 0.8),
        ]

    shoulder, bone = neck + np.array([0, 0.05 * size]), 0.46 * size
    far_leg = limb(hip, bone, -0.5 * swing, -0.25 * (1 + np.sin(angle + 2)), 0.1 * size)
    near_leg = limb(hip, bone, 0.5 * swing, -0.25 * (1 - np.sin(angle + 2)), 0.1 * size)
    far_arm = limb(shoulder, 0.36 * size, 0.55 * swing, 0.35, 0.06 * size)
    near_arm = limb(shoulder, 0.36 * size, -0.55 * swing, 0.35, 0.06 * size)
    chest = [(neck + [0, 0.05 * size], hip - [0, 0.02 * size], stout * size)]
    head = [(neck + [0, -0.1 * size], neck + [heading * 0.01 * size, -0.07 * size], 0.125 * size)]
    order = [(3, far_leg), (2, far_arm), (3, near_leg), (1, chest), (0, head), (2, near_arm)]
    picture, alpha = np.zeros((*SIZE, 3), np.float32), np.zeros(SIZE, np.float32)
    for skin, bones in order:
        for start, end, width in bones:
            shape = np.zeros((SIZE[0] * 2, SIZE[1] * 2), np.uint8)
            p, q = (tuple(int(round(2 * v)) for v in point) for point in (start, end))
            cv2.line(shape, p, q, 255, max(2, int(round(2 * width))), cv2.LINE_AA)
            a = cv2.resize(shape, SIZE[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255
            axis = (end - start) / max(np.linalg.norm(end - start), 1e-6)
            turn = np.array([[axis[1], axis[0]], [-axis[0], axis[1]]])
            place = np.hstack([turn, (start - turn @ [80, 40])[:, None]])
            skin_here = cv2.warpAffine(skins[skin], place, SIZE[::-1], borderMode=cv2.BORDER_REFLECT)
            picture = picture * (1 - a[..., None]) + skin_here * a[..., None]
            alpha = 1 - (1 - alpha) * (1 - a)
    return picture, alpha, (neck + hip) / 2


def score(truth: np.ndarray, found: np.ndarray) -> dict:
    """Mean and last-frame IoU and recall after 6 px dilation of bool (n, h, w) masks."""
    union = (truth | found).sum((1, 2))
    iou = (truth & found).sum((1, 2)) / np.maximum(union, 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (13, 13))
    wide = np.stack([cv2.dilate(m.astype(np.uint8), kernel) > 0 for m in found])
    recall = (truth & wide).sum((1, 2)) / np.maximum(truth.sum((1, 2)), 1)
    return {
        "iou": iou.mean(),
        "first": iou[0],
        "last": iou[-1],
        "recall": recall.mean(),
        "lowest": recall.min(),
    }


def main() -> None:
    if any(flag.split("=")[0] == "--labels" for flag in sys.argv[1:]):
        import labelled

        return labelled.main()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, required=True, help="folder with the clips")
    parser.add_argument("--seeds", type=int, default=3, help="walkers a clip (default 3)")
    parser.add_argument("--first_seed", type=int, default=0)
    parser.add_argument("--jitter", type=float, default=0.0, help="standard deviation of the click in pixels")
    parser.add_argument("--held_out", type=int, default=0, help="walkers a clip, after --seeds, 4 px jitter")
    parser.add_argument("--clips", nargs="*", default=list(CLIPS), choices=list(CLIPS))
    parser.add_argument("--segmenter", default="classical", choices=list(SEGMENTERS))
    parser.add_argument("--before", type=Path, help="JSON of a former run, whose means are shown as well")
    parser.add_argument("--output", type=Path, help="write OUTPUT.json and OUTPUT.md")
    parser.add_argument("--sheets", type=Path, help="folder for pictures of the tracks")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    sets = [measure(args, args.first_seed, args.seeds, args.jitter)]
    if args.held_out:
        first = max(args.first_seed + args.seeds, HELD_OUT_FROM)
        sets.append(measure(args, first, args.held_out, 4.0))
    if args.output:
        save(args, sets)


HELD_OUT_FROM = 3  # smaller seeds were used all through development
KEYS = ("iou", "first", "last", "recall", "lowest", "seconds", "area")


def measure(args, first_seed: int, seeds: int, jitter: float) -> dict:
    """Track every clip with `seeds` walkers; what was asked, the rows, their mean and their worst figures."""
    rows = []
    for name in args.clips:
        clip = read(args.videos, name)
        for seed in range(first_seed, first_seed + seeds):
            frames, truth, (x, y), colouring = compose(clip, name, seed)
            dx, dy = np.random.default_rng(seed).normal(0, jitter, 2)
            started = time.process_time()
            click = [ClickPrompt(x + dx, y + dy)]
            result = track(ArraySource(frames), click, segmenter=args.segmenter)
            seconds = (time.process_time() - started) / len(frames)
            found = result.masks[0 : len(frames)]
            row = {"clip": name, "seed": seed, "colouring": colouring, "area": truth.mean()}
            rows.append({**row, **score(truth, found), "seconds": seconds, "lost": result.lost})
            print(line(rows[-1]), flush=True)
            if args.sheets:
                args.sheets.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(args.sheets / f"{name}-{seed}.png"), sheet(frames, found, truth)[..., ::-1])
    mean = {k: float(np.mean([r[k] for r in rows])) for k in KEYS}
    worst = {k: float((np.max if k == "seconds" else np.min)([r[k] for r in rows])) for k in KEYS}
    result = {"first_seed": first_seed, "seeds": seeds, "jitter": jitter, "clips": args.clips}
    result.update(mean=mean, worst=worst, rows=rows)
    for summary in summaries(result):
        print(summary, flush=True)
    return result


def summaries(result: dict) -> list[str]:
    """The table's last two lines."""
    blank = {"seed": "", "colouring": "", "lost": ""}
    return [line({"clip": f"**{k}**", **blank, **result[k]}) for k in ("mean", "worst")]


NOTE = """
Seeds 0 to 2 were used all through development. Of the held-out ones, bigbuckbunny 3 and 4 and bikes-187 4
were looked at, and used to choose the strength of one late rule (limbs that walk along are taken in); the
others were only measured. Of these clips nothing is left out. The extra clip cup, where a hand moves along
with the walker, was not measured again: an earlier version leaked there (mean IoU 0.31 and 0.19, recall 1.00
and 0.90 on seeds 0 and 1).
"""
HEAD = (
    "| clip | seed | colouring | area | mean IoU | first | last | recall 6 px | lowest | s a frame | lost |"
)


def line(r: dict) -> str:
    numbers = " | ".join(
        f"{r[k]:.3f}" for k in ("area", "iou", "first", "last", "recall", "lowest", "seconds")
    )
    return f"| {r['clip']} | {r['seed']} | {r['colouring']} | {numbers} | {r['lost']} |"


def save(args, sets: list[dict]) -> None:
    before = json.loads(args.before.read_text()) if args.before else None
    args.output.parent.mkdir(parents=True, exist_ok=True)
    command = f"python benchmarks/segmentation.py --videos DIR --clips {' '.join(args.clips)}"
    command += f" --first_seed {args.first_seed} --seeds {args.seeds} --jitter {args.jitter:g}"
    command += f" --held_out {args.held_out}" if args.held_out else ""
    command += f" --segmenter {args.segmenter}"
    about = {"machine": processor(), "threads": 1, "opencv": cv2.__version__, "command": command}
    data = {**about, "sets": sets}
    args.output.with_suffix(".json").write_text(json.dumps(data, indent=1, default=float) + "\n")
    text = f"# Click to mask\n\n`{command}`\n\n{about['machine']}, one thread, OpenCV {cv2.__version__}\n"
    text += NOTE if len(sets) > 1 and args.segmenter == "classical" else ""
    for k, result in enumerate(sets):
        last = result["first_seed"] + result["seeds"] - 1
        text += f"\n## {'Held out: ' if k else ''}seeds {result['first_seed']} to {last}, "
        text += f"click jitter {result['jitter']:g} px\n\n"
        lines = [HEAD, "|" + "---|" * 11, *map(line, result["rows"]), *summaries(result)]
        if before and k < len(before["sets"]):
            lines += [one.replace("| **", "| before: **", 1) for one in summaries(before["sets"][k])]
        text += "\n".join(lines) + "\n"
    if before:
        text += f"\nBefore: `{before['command']}`\n"
    args.output.with_suffix(".md").write_text(text)


def sheet(frames, found, truth=None, columns: int = 6, count: int = 18) -> np.ndarray:
    """Filmstrip uint8: found masks tinted red, the true outline green."""
    tiles = []
    for i in np.linspace(0, len(frames) - 1, count).astype(int):
        tile = frames[i].copy()
        tile[found[i]] = (0.5 * tile[found[i]] + [127, 0, 0]).astype(np.uint8)
        if truth is not None:
            outline = (
                cv2.morphologyEx(truth[i].astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0
            )
            tile[outline] = (0, 255, 0)
        cv2.putText(tile, str(i), (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 0), 1)
        tiles.append(tile)
    return np.vstack([np.hstack(tiles[r : r + columns]) for r in range(0, len(tiles), columns)])


if __name__ == "__main__":
    main()
