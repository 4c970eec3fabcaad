"""The propagation engine on frozen cases: PSNR, SSIM and E_warp in the hole, seconds a frame, memory.

    python benchmarks/propagation.py --videos FOLDER --output benchmarks/results/propagation.md

    python benchmarks/propagation.py --videos FOLDER --kinds moving --alter noise8,noise14,fade3,fade6,flash,dissolve
    python benchmarks/propagation.py --videos FOLDER --kinds whole
    python benchmarks/propagation.py --videos FOLDER --kinds moving --alter shadow
    python benchmarks/propagation.py --videos FOLDER --before CHECKOUT
    python benchmarks/propagation.py --videos FOLDER --workers-ratio 2 --clips bikes-a --sizes 854x480 --frames 100

With --output rows are kept as they are made: the same command goes on where it was stopped, and rows of other kinds,
clips and sizes stay. --sheets FOLDER draws filmstrips: truth, hole, Telea, before, propagation.
Every number stands beside Telea's (`cv2.inpaint`, radius 3) and a harmonic fill's from the same run, one thread.
The hole is painted magenta before the engine sees it, so that a leak would show in the score.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np
from cases import CLIPS, KINDS, alter, draw_masks, draw_shadow, read_clip
from machine import processor

from videopainter import metrics
from videopainter.masks import MaskTrack
from videopainter.ops.harmonic import harmonic_fill
from videopainter.propagation import PropagationEngine
from videopainter.steps.effects import find_effects
from videopainter.video import ArraySource

SIZES = {"432x240": (240, 432), "720x480": (480, 720), "854x480": (480, 854), "1920x1080": (1080, 1920)}


def telea(frames, masks):
    return [cv2.inpaint(f, m.view(np.uint8), 3, cv2.INPAINT_TELEA) for f, m in zip(frames, masks)]


def harmonic(frames, masks):
    filled = (harmonic_fill(f.astype(np.float32), m) for f, m in zip(frames, masks))
    return [np.clip(np.rint(f), 0, 255).astype(np.uint8) for f in filled]


def propagation(frames, masks, unseen=None):
    """``unseen``: a list that gets what of each hole no other frame shows, bool (h, w)."""
    note = None if unseen is None else lambda i, sure: unseen.append(sure == 0)
    return list(
        PropagationEngine(workers=1)(ArraySource(frames), MaskTrack.from_array(masks), confidence=note)
    )


def another(checkout: Path):
    """The engine of another checkout of the project, as a method; its seconds are those of a process of its own."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import cv2, numpy as np; cv2.setNumThreads(1)\n"
        "from videopainter.masks import MaskTrack; from videopainter.propagation import PropagationEngine\n"
        "from videopainter.video import ArraySource; given = np.load(sys.argv[2])\n"
        "source, masks = ArraySource(given['frames']), MaskTrack.from_array(given['masks'])\n"
        "import time; start = time.process_time(); frames = np.stack(list(PropagationEngine()(source, masks)))\n"
        "np.savez(sys.argv[3], frames=frames, seconds=time.process_time() - start)"
    )

    def method(frames, masks):
        with tempfile.TemporaryDirectory() as folder:
            given, made = Path(folder) / "given.npz", Path(folder) / "made.npz"
            np.savez(given, frames=frames, masks=masks)
            command = [sys.executable, "-c", code, str(checkout.resolve()), str(given), str(made)]
            subprocess.run(command, check=True, cwd=folder)
            result = np.load(made)
            method.seconds = float(result["seconds"])
            return list(result["frames"])

    return method


def cross_fade(frames, masks):
    """Frames that are hidden altogether as a fade from the one before them to the one after."""
    hidden = np.flatnonzero(masks.all(axis=(1, 2)))
    before, after = hidden[0] - 1, hidden[-1] + 1
    out = np.stack(frames).copy()
    for t in hidden:
        share = (t - before) / (after - before)
        out[t] = np.rint((1 - share) * frames[before] + share * frames[after].astype(np.float32))
    return out


METHODS = {"telea": telea, "harmonic": harmonic, "propagation": propagation}


def cpu_seconds() -> float:
    """Of this process and of those that it waited for."""
    return sum(sum(resource.getrusage(of)[:2]) for of in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def score(result, seconds, frames, masks) -> dict:
    pooled, mean = metrics.psnr(result, frames, masks)
    return {
        "psnr": pooled,
        "psnr_frames": mean,
        "ssim": metrics.ssim(result, frames, masks),
        "e_warp": metrics.e_warp(result, frames, masks) * 1e3,
        "grain": grain(result, masks),
        "psnr_soft": metrics.psnr(softened(result), softened(frames), masks)[0],
        "seconds": seconds,
    }


def softened(frames: np.ndarray) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), 1.5) for frame in frames])


def grain(frames: np.ndarray, masks: np.ndarray) -> float | None:
    """Strength of the fine detail in the hole by that in a ring around it; None where there is no ring."""
    inside, around = [], []
    for frame, soft, mask in zip(frames, softened(frames), masks):
        power = ((frame.astype(np.float32) - soft) ** 2).mean(axis=-1)
        away = cv2.distanceTransform((~mask).view(np.uint8), cv2.DIST_L2, 3)
        inside.append(power[cv2.erode(mask.view(np.uint8), np.ones((5, 5), np.uint8)) > 0])
        around.append(power[(away > 2) & (away < 14)])
    inside, around = np.concatenate(inside), np.concatenate(around)
    return float((inside.mean() / around.mean()) ** 0.5) if len(inside) and len(around) else None


def run(args, size, clips, rows, keep) -> None:
    """Add to ``rows`` what is not among them yet; ``keep`` is called after each."""
    for kind, how in itertools.product(args.kinds.split(","), args.alter.split(",")):
        for clip in clips:
            case = {"size": size, "kind": kind if how == "none" else f"{kind}, {how}", "clip": clip.name}
            if any(case.items() <= row.items() for row in rows):
                continue
            truth = read_clip(args.videos, clip, args.frames, SIZES[size])
            masks = draw_masks(kind, clip.name, len(truth), SIZES[size])
            shadow = draw_shadow(masks) if how == "shadow" else None
            truth = truth if shadow is not None else alter(how, truth)
            row, results = measured(truth, masks, shadow)
            rows.append({**case, **row})
            print(line(rows[-1]), flush=True)
            keep()
            if args.sheets:
                sheet(args.sheets, case, truth, masks, results)


def measured(truth, masks, shadow) -> tuple[dict, dict]:
    """The figures of every method, and what they made."""
    video, given = truth, masks
    if shadow is not None:
        video = np.clip(np.rint(truth * shadow[..., None]), 0, 255).astype(np.uint8)
        found = find_effects(ArraySource(video), MaskTrack.from_array(masks), "auto")
        given = masks if found is None else masks | found[0 : len(masks)]
        masks = masks | (shadow < 1)  # the shadow is judged as well
    masked, unseen = video.copy(), []
    masked[given] = (255, 0, 255)
    row, results = {"hole": float(masks.mean())}, {}
    for name, method in METHODS.items():
        start = cpu_seconds()
        made = method(masked, given, unseen) if name == "propagation" else method(masked, given)
        # Without the start of a process, where there is one.
        seconds = getattr(method, "seconds", cpu_seconds() - start) / len(masked)
        results[name] = np.stack(made)
        row[name] = score(results[name], seconds, truth, masks)
    if masks.all(axis=(1, 2)).any():
        faded = cross_fade(masked, given)
        row["cross_fade"] = {
            "psnr": metrics.psnr(faded, truth, masks)[0],
            "ssim": metrics.ssim(faded, truth, masks),
        }
    never = np.stack(unseen) & given
    row["seen"] = 1 - float(never.sum() / given.sum())
    for name in METHODS if never.any() else ():
        row[name]["psnr_unseen"] = metrics.psnr(results[name], truth, never)[0]
    return row, results


def sheet(folder: Path, case: dict, truth, masks, results) -> None:
    """Five frames of a case, one below the other."""
    names = [name for name in ("telea", "before", "propagation") if name in results]
    at = np.linspace(0, len(truth) - 1, 5).round().astype(int)
    hidden = truth.copy()
    hidden[masks] = (255, 0, 255)
    rows = [np.hstack([clip[t] for clip in (truth, hidden, *(results[name] for name in names))]) for t in at]
    folder.mkdir(parents=True, exist_ok=True)
    name = "-".join(case.values()).replace(", ", "-")
    cv2.imwrite(str(folder / f"{name}.png"), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))


def line(row) -> str:
    cells = [row["size"], row["kind"], row["clip"], f"{row['hole']:.3f}"]
    for name in METHODS:
        s = row.get(name)
        if s is None:
            cells.append("-")
            continue
        cells.append(f"{s['psnr']:.1f}/{s['psnr_frames']:.1f}/{s['ssim']:.3f}/{s['e_warp']:.2f}")
    ours, best = row["propagation"], max(row["telea"]["psnr"], row["harmonic"]["psnr"])
    cells += [f"{ours['psnr'] - row['telea']['psnr']:+.1f}", f"{ours['psnr'] - best:+.2f}"]
    engines = [name for name in METHODS if name in row and name not in ("telea", "harmonic")]
    if "before" in METHODS:
        cells.append(f"{ours['psnr'] - row['before']['psnr']:+.2f}" if "before" in row else "-")
    ratio = [row[name]["grain"] for name in engines]
    cells.append("/".join("-" if r is None else f"{r:.2f}" for r in ratio))
    cells.append("/".join(f"{row[name]['psnr_soft']:.1f}" for name in engines))
    never = [row[name].get("psnr_unseen") for name in ("telea", "propagation")]
    cells += [f"{row['seen']:.2f}", "-" if None in never else "/".join(f"{p:.1f}" for p in never)]
    cells += [f"{ours['seconds']:.3f}", f"{ours['seconds'] / row['telea']['seconds']:.0f}x"]
    return "| " + " | ".join(cells) + " |"


def header() -> str:
    names = ["size", "hole", "clip", "share", *METHODS, "gain over Telea", "to the better"]
    names += ["over before"] if "before" in METHODS else []
    names += ["fine detail", "PSNR softened", "seen", "never seen", "s a frame", "to Telea"]
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def means(rows) -> list[str]:
    out = []
    for size in dict.fromkeys(r["size"] for r in rows):
        for kind in dict.fromkeys(r["kind"] for r in rows if r["size"] == size):
            of = [r for r in rows if r["size"] == size and r["kind"] == kind]
            gain = {
                k: np.mean([r["propagation"][k] - r["telea"][k] for r in of]) for k in ("psnr", "psnr_frames")
            }
            seconds = [r["propagation"]["seconds"] for r in of]
            text = (
                f"- {size}, {kind}: mean gain over Telea {gain['psnr']:+.2f} dB pooled, "
                f"{gain['psnr_frames']:+.2f} dB mean of frames; {np.mean(seconds):.3f} s a frame, "
                f"at most {max(seconds):.3f}"
            )
            both = [r for r in of if "before" in r]
            if both:
                more = [r["propagation"]["psnr"] - r["before"]["psnr"] for r in both]
                time_ = np.mean([r["propagation"]["seconds"] / r["before"]["seconds"] for r in both])
                text += f"; over the engine before {np.mean(more):+.2f} dB, at least {min(more):+.2f}, "
                text += f"{time_:.2f} of its time"
            out.append(text + bars(kind, of))
    return out


def bars(kind: str, rows) -> str:
    """How rows of noise and of whole frames stand by what is asked of them."""
    if "noise" in kind:
        detail = [r["propagation"]["grain"] for r in rows]
        text = f"; fine detail {min(detail):.2f} to {max(detail):.2f} of that around it (0.8 to 1.2 are asked for)"
        soft = [r["propagation"]["psnr_soft"] - r["before"]["psnr_soft"] for r in rows if "before" in r]
        return text + (f", softened at least {min(soft):+.1f} dB over the engine before" if soft else "")
    faded = [(r["propagation"], r["cross_fade"]) for r in rows if "cross_fade" in r]
    if not faded:
        return ""
    more = ", ".join(
        f"{np.mean([ours[key] - fade[key] for ours, fade in faded]):+{how}}{unit} (at least "
        f"{min(ours[key] - fade[key] for ours, fade in faded):+{how}})"
        for key, how, unit in (("psnr", ".2f", " dB"), ("ssim", ".3f", " SSIM"))
    )
    return f"; over a cross-fade of both ends {more}"


class _Endless:
    """A drifting texture with a moving hole, drawn when asked for: nothing of it is held."""

    def __init__(self, frames, size, masks=False):
        self.n, self.size, self.masks = frames, size, masks
        noise = np.random.default_rng(0).integers(0, 256, (size[0] // 4, size[1] // 4, 3), np.uint8)
        self.texture = cv2.resize(noise, (size[1] + 200, size[0]), interpolation=cv2.INTER_CUBIC)

    def __len__(self):
        return self.n

    def __getitem__(self, key):
        return np.stack([self.frame(i) for i in range(*key.indices(self.n))])

    def frame(self, i):
        h, w = self.size
        if not self.masks:
            shift = int(100 + 99 * np.sin(i / 60))
            return self.texture[:, shift : shift + w]
        hole = np.zeros(self.size, bool)
        x = int(w * (0.4 + 0.3 * np.sin(i / 17)))
        hole[h // 4 : 3 * h // 4, x : x + w // 8] = True
        return hole


def peak_memory(frames: int, size: str) -> float:
    """Peak resident memory over the start in MB, from a process of its own."""
    command = [sys.executable, __file__, "--memory_probe", str(frames), size]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def _probe(frames: int, size: str) -> None:
    import psutil

    cv2.setNumThreads(1)
    process, done, peak = psutil.Process(), threading.Event(), [0]

    def watch():
        while not done.wait(0.005):
            peak[0] = max(peak[0], process.memory_info().rss)

    video, masks = _Endless(frames, SIZES[size]), _Endless(frames, SIZES[size], masks=True)
    start = process.memory_info().rss
    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in PropagationEngine()(video, masks):
        pass
    done.set()
    watcher.join()
    print((peak[0] - start) / 2**20)


def machine() -> str:
    return (
        f"{processor()}, Python {platform.python_version()}, OpenCV {cv2.__version__}, NumPy {np.__version__}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, help="folder with the clips named in cases.py")
    parser.add_argument("--clips", help="only these, by comma")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--sizes", default="432x240")
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument(
        "--alter",
        default="none",
        help="what is done to the clips first, by comma; see cases.alter; shadow: see cases.draw_shadow",
    )
    parser.add_argument(
        "--before", type=Path, help="another checkout of the project, measured beside this one"
    )
    parser.add_argument(
        "--workers-ratio", type=int, metavar="N", help="only compare N threads with one, on the first clip"
    )
    parser.add_argument("--sheets", type=Path, help="draw filmstrips into this folder")
    parser.add_argument("--memory", help="also measure peak memory for these numbers of frames, by comma")
    parser.add_argument("--output", type=Path, help="write the table here, and the numbers beside it as JSON")
    parser.add_argument("--memory_probe", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.memory_probe:
        return _probe(int(args.memory_probe[0]), args.memory_probe[1])
    if args.videos is None:
        parser.error("--videos is required")
    cv2.setNumThreads(1)
    clips = [c for c in CLIPS if not args.clips or c.name in args.clips.split(",")]
    if args.before:
        METHODS["before"] = another(args.before)
    if args.workers_ratio:
        return workers_ratio(args, clips[0])
    print(header())
    kept = args.output.with_suffix(".json") if args.output else None
    found = json.loads(kept.read_text()) if kept and kept.exists() else {"rows": [], "memory_mb": {}}
    rows, memory = found["rows"], found["memory_mb"]

    def keep():
        if kept:
            kept.write_text(json.dumps({"rows": rows, "memory_mb": memory}, indent=1) + "\n")
            write_table(args, rows, memory)

    for size in args.sizes.split(","):
        run(args, size, clips, rows, keep)
        for frames in (args.memory or "").split(",") if args.memory else ():
            memory[f"{size}, {frames} frames"] = peak_memory(int(frames), size)
    keep()
    print("\n".join(summary(rows, memory)))


def summary(rows, memory) -> list[str]:
    return means(rows) + [f"- {what}: {megabytes:.0f} MB above start" for what, megabytes in memory.items()]


def write_table(args, rows, memory) -> None:
    # The folders are the user's own business; everything else is the command as given.
    named = {"--videos": "FOLDER", "--before": "CHECKOUT", "--output": "FILE", "--sheets": "FOLDER"}
    given = [named.get(before, word) for before, word in zip(["", *sys.argv[1:]], sys.argv[1:])]
    note = "Cells: PSNR pooled / mean of frames / SSIM / E_warp x 1e-3, all in the hole. One thread, CPU seconds. "
    note += "Fine detail: its strength in the hole by that around it; PSNR softened: both blurred by 1.5 px first "
    note += "(each now / before). Seen: share of the hole that other frames show; never seen: PSNR of Telea and ours "
    note += "in the rest. Rows were made by this command, and others of its kind with other clips, holes and sizes."
    head = f"# Propagation\n\n{machine()}\n\n`python benchmarks/propagation.py {' '.join(given)}`\n\n{note}\n"
    text = [head, header(), *map(line, rows), "", *summary(rows, memory)]
    args.output.write_text("\n".join(text) + "\n")


def workers_ratio(args, clip) -> None:
    """Clock and CPU seconds with 1 and with N threads, in turns, and whether the results are the same."""
    size, count = args.sizes.split(",")[0], args.workers_ratio
    truth = read_clip(args.videos, clip, args.frames, SIZES[size])
    masks = draw_masks("moving", clip.name, len(truth), SIZES[size])
    truth[masks] = (255, 0, 255)
    spent, made = {1: [], count: []}, {}
    for workers in (1, count, 1, count):
        clock, cpu = time.perf_counter(), cpu_seconds()
        engine = PropagationEngine(workers=workers)
        made[workers] = np.stack(list(engine(ArraySource(truth), MaskTrack.from_array(masks))))
        spent[workers].append((time.perf_counter() - clock, cpu_seconds() - cpu))
        print(
            f"{workers} threads: {spent[workers][-1][0]:.1f} s, {spent[workers][-1][1]:.1f} CPU s", flush=True
        )
    one, many = (min(clock for clock, _ in spent[n]) for n in (1, count))
    cores = sum(cpu for _, cpu in spent[count]) / sum(clock for clock, _ in spent[count])
    same = np.array_equal(made[1], made[count])
    print(
        f"{clip.name}, {size}, {len(truth)} frames: {one / many:.2f} times as fast; {cores:.2f} cores at work; "
    )
    print("the same bit for bit" if same else "NOT the same")


if __name__ == "__main__":
    main()
