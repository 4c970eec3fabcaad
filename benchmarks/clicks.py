#!/usr/bin/env python3
"""How good a click is: simulated clicks on labelled things of real clips.

    python benchmarks/clicks.py --labels FOLDER --videos FOLDER [--weights FILE] [--sheet FILE] [--json FILE]

`FOLDER/index.json` names the things, their clip, first frame and clicks; `FOLDER/NAME.npz` holds `frames`,
`masks` and where it applies `alt` (an equally good reading) and `ignore`. The first click is the labelled one;
each further one lies in the middle of the largest error. Printed for each thing: IoU after 1, 2, 3 and 5 clicks,
the best candidate of the first, the mean of five random first clicks, clicks until 0.85 (20 = never), the largest
loss that a click brought, milliseconds.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import av
import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from videopainter.segmentation.clicks import interaction  # noqa: E402
from videopainter.segmentation.clicks.network import WEIGHTS, ClickNetwork, Point  # noqa: E402

ENOUGH, MOST = 0.85, 20


def frame_of(path: Path, number: int) -> np.ndarray:
    """Frame `number` of a clip, uint8 RGB."""
    with av.open(str(path)) as clip:
        for k, frame in enumerate(clip.decode(video=0)):
            if k == number:
                return frame.to_ndarray(format="rgb24")
    raise ValueError(f"{path} has no frame {number}.")


def things(labels: Path, videos: Path):
    """Name, frame, first click, readings (list of bool masks) and what to leave out of the count, for each thing."""
    cache = {}
    for item in json.loads((labels / "index.json").read_text())["objects"]:
        x, y, number = item["clicks"][0][:3]
        with np.load(labels / f"{item['name']}.npz") as content:
            k = list(content["frames"]).index(number)
            readings = [content[key][k] > 0 for key in ("masks", "alt") if key in content]
            ignore = content["ignore"][k] > 0 if "ignore" in content else np.zeros(readings[0].shape, bool)
        key = (item["clip"], number)
        if key not in cache:
            cache[key] = frame_of(videos / item["clip"], number)
        yield item["name"], cache[key], (int(x), int(y)), readings, ignore


def next_click(mask: np.ndarray, truth: np.ndarray) -> Point | None:
    """The middle of the largest error."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats((mask ^ truth).astype(np.uint8))
    if len(stats) < 2:
        return None
    wrong = labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    distance = cv2.distanceTransform(np.pad(wrong.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(distance.argmax(), distance.shape)
    return Point(int(x), int(y), bool(truth[y, x]))


def inner_clicks(truth: np.ndarray, count: int, rng) -> list[tuple[int, int]]:
    """Random pixels well inside the thing."""
    distance = cv2.distanceTransform(np.pad(truth.astype(np.uint8), 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    ys, xs = np.nonzero(distance >= max(1.0, 0.25 * distance.max()))
    return [(int(xs[k]), int(ys[k])) for k in rng.integers(len(xs), size=count)]


def measure(network, frame, click, readings, ignore, rng, most: int = MOST) -> dict:
    """The row of one thing."""

    def score(mask, truth):
        return interaction.iou(mask & ~ignore, truth & ~ignore)

    points, values, masks = [Point(*click)], [], []
    began = time.perf_counter()
    candidates = interaction.first_look(network, frame, points)
    first = (time.perf_counter() - began) * 1000
    shown = interaction.best(candidates)
    truth = max(readings, key=lambda reading: score(shown.mask, reading))
    row = {"best": max(score(c.mask, t) for c in candidates for t in readings), "first_ms": first}
    row["candidates"] = [
        (c.extent, round(c.score, 3), round(max(score(c.mask, t) for t in readings), 3)) for c in candidates
    ]
    later = []
    while True:
        values.append(score(shown.mask, truth))
        masks.append(shown.mask)
        if len(values) >= most or (len(values) >= 5 and max(values) >= ENOUGH):
            break
        click_more = next_click(shown.mask & ~ignore, truth & ~ignore)
        if click_more is None:
            break
        points.append(click_more)
        began = time.perf_counter()
        shown = interaction.correct(network, frame, points, shown.probability)
        later.append((time.perf_counter() - began) * 1000)
    row["later_ms"] = float(np.median(later)) if later else 0.0
    row["values"] = values
    row["clicks"] = next((k + 1 for k, v in enumerate(values) if v >= ENOUGH), MOST)
    row["worst"] = min((b - a for a, b in zip(values, values[1:])), default=0.0)
    inner = []
    for x, y in inner_clicks(readings[0], 5, rng):
        found = interaction.best(interaction.first_look(network, frame, [Point(x, y)]))
        inner.append(max(score(found.mask, t) for t in readings))
    row["inner"] = float(np.mean(inner)) if inner else float("nan")
    row["masks"], row["points"], row["truth"] = masks, points, truth
    return row


def at(values: list, count: int) -> float:
    """The IoU after `count` clicks."""
    return values[min(count, len(values)) - 1]


def tile(frame, row, name: str, size: int = 220) -> np.ndarray:
    """After 1, 3 and 5 clicks: the mask in red, the truth's outline in yellow, the clicks."""
    box = interaction.around(row["truth"] | row["masks"][0], [], margin=1.6)
    out = []
    for count in (1, 3, 5):
        k = min(count, len(row["masks"])) - 1
        view = frame[..., ::-1].copy()
        mask = row["masks"][k]
        view[mask] = view[mask] * 0.5 + np.array([0, 0, 127])
        outline, _ = cv2.findContours(row["truth"].astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(view, outline, -1, (0, 255, 255), 1)
        view = view[box.slices]
        scale = size / max(view.shape[:2])
        view = cv2.resize(
            view, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
        )
        for point in row["points"][: k + 1]:
            spot = (int((point.x - box.left) * scale), int((point.y - box.top) * scale))
            cv2.circle(view, spot, 4, (0, 255, 0) if point.positive else (255, 0, 0), -1)
        canvas = np.zeros((size + 18, size + 4, 3), np.uint8)
        canvas[: view.shape[0], : view.shape[1]] = view[:size, :size]
        cv2.putText(
            canvas,
            f"{name[:16]} {k + 1}: {row['values'][k]:.2f}",
            (2, size + 13),
            0,
            0.42,
            (255, 255, 255),
            1,
        )
        out.append(canvas)
    return np.hstack(out)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    flags.add_argument("--labels", type=Path, required=True)
    flags.add_argument("--videos", type=Path, required=True)
    flags.add_argument("--weights", type=Path, default=WEIGHTS)
    flags.add_argument("--sheet", type=Path, help="write an overlay sheet of every thing")
    flags.add_argument("--json", type=Path, help="write the figures")
    flags.add_argument("--most", type=int, default=MOST, help="clicks at most (default 20)")
    options = flags.parse_args()
    network, rows, tiles = ClickNetwork(options.weights), {}, []
    print("| thing | 1 | 2 | 3 | 5 | best | inner | clicks to .85 | worst step | ms first | ms later |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name, frame, click, readings, ignore in things(options.labels, options.videos):
        rng = np.random.default_rng(0)
        row = measure(network, frame, click, readings, ignore, rng, options.most)
        if options.sheet:
            tiles.append(tile(frame, row, name))
        values = [at(row["values"], n) for n in (1, 2, 3, 5)]
        rows[name] = [
            *values,
            row["best"],
            row["inner"],
            row["clicks"],
            row["worst"],
            row["first_ms"],
            row["later_ms"],
        ]
        print(
            _line(name, rows[name]),
            " ".join(f"{e} {s:.2f}/{v:.2f}" for e, s, v in row["candidates"]),
            flush=True,
        )
    table = np.array(list(rows.values()))
    print(_line("mean", table.mean(0)))
    print(
        f"{(table[:, 0] >= 0.8).sum()} of {len(table)} at 0.8 or more after one click; lowest {table[:, 0].min():.2f}"
    )
    if options.sheet:
        while len(tiles) % 2:
            tiles.append(np.zeros_like(tiles[0]))
        cv2.imwrite(
            str(options.sheet), np.vstack([np.hstack(tiles[k : k + 2]) for k in range(0, len(tiles), 2)])
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def _line(name: str, row) -> str:
    a = [f"{v:.3f}" for v in row[:6]] + [f"{row[6]:.1f}", f"{row[7]:+.3f}", f"{row[8]:.0f}", f"{row[9]:.0f}"]
    return f"| {name} | " + " | ".join(a) + " |"


if __name__ == "__main__":
    main()
