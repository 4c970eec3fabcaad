"""The propagation engine on frozen cases: PSNR, SSIM and E_warp in the hole, seconds a frame, memory.

    python benchmarks/propagation.py --videos FOLDER --output benchmarks/results/propagation.md

    python benchmarks/propagation.py --videos FOLDER --kinds moving --alter noise8,noise14,fade3,fade6,flash,dissolve
    python benchmarks/propagation.py --videos FOLDER --kinds whole
    python benchmarks/propagation.py --videos FOLDER --before CHECKOUT

Every number stands beside Telea's (`cv2.inpaint`, radius 3) and a harmonic fill's from the same run, one thread.
The hole is painted magenta before the engine sees it, so that a leak would show in the score.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import cv2
import numpy as np
from cases import CLIPS, KINDS, alter, draw_masks, read_clip
from machine import processor

from videopainter import metrics
from videopainter.masks import MaskTrack
from videopainter.ops.harmonic import harmonic_fill
from videopainter.propagation import PropagationEngine
from videopainter.video import ArraySource

SIZES = {"432x240": (240, 432), "720x480": (480, 720)}


def telea(frames, masks):
    return [cv2.inpaint(f, m.view(np.uint8), 3, cv2.INPAINT_TELEA) for f, m in zip(frames, masks)]


def harmonic(frames, masks):
    filled = (harmonic_fill(f.astype(np.float32), m) for f, m in zip(frames, masks))
    return [np.clip(np.rint(f), 0, 255).astype(np.uint8) for f in filled]


def propagation(frames, masks):
    return list(PropagationEngine(workers=1)(ArraySource(frames), MaskTrack.from_array(masks)))


def another(checkout: Path):
    """The engine of another checkout of the project, as a method; its seconds are those of a process of its own."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import cv2, numpy as np; cv2.setNumThreads(1)\n"
        "from videopainter.masks import MaskTrack; from videopainter.propagation import PropagationEngine\n"
        "from videopainter.video import ArraySource; given = np.load(sys.argv[2])\n"
        "frames = PropagationEngine()(ArraySource(given['frames']), MaskTrack.from_array(given['masks']))\n"
        "np.save(sys.argv[3], np.stack(list(frames)))"
    )

    def method(frames, masks):
        with tempfile.TemporaryDirectory() as folder:
            given, made = Path(folder) / "given.npz", Path(folder) / "made.npy"
            np.savez(given, frames=frames, masks=masks)
            command = [sys.executable, "-c", code, str(checkout.resolve()), str(given), str(made)]
            subprocess.run(command, check=True, cwd=folder)
            return list(np.load(made))

    return method


METHODS = {"telea": telea, "harmonic": harmonic, "propagation": propagation}


def score(method, frames, masks) -> dict:
    masked = frames.copy()
    masked[masks] = (255, 0, 255)
    start = time.process_time()
    result = np.stack(METHODS[method](masked, masks))
    seconds = (time.process_time() - start) / len(frames)
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


def run(folder, size, kinds, clips, frames, alterations=("none",)) -> list[dict]:
    rows = []
    for kind, how in itertools.product(kinds, alterations):
        for clip in clips:
            video = alter(how, read_clip(folder, clip, frames, SIZES[size]))
            masks = draw_masks(kind, clip.name, len(video), SIZES[size])
            name = kind if how == "none" else f"{kind}, {how}"
            row = {"size": size, "kind": name, "clip": clip.name, "hole": float(masks.mean())}
            row |= {name: score(name, video, masks) for name in METHODS}
            print(line(row), flush=True)
            rows.append(row)
    return rows


def line(row) -> str:
    cells = [row["size"], row["kind"], row["clip"], f"{row['hole']:.3f}"]
    for name in METHODS:
        s = row[name]
        cells.append(f"{s['psnr']:.1f}/{s['psnr_frames']:.1f}/{s['ssim']:.3f}/{s['e_warp']:.2f}")
    ours, best = row["propagation"], max(row["telea"]["psnr"], row["harmonic"]["psnr"])
    cells += [f"{ours['psnr'] - row['telea']['psnr']:+.1f}", f"{ours['psnr'] - best:+.2f}"]
    if "before" in row:
        cells.append(f"{ours['psnr'] - row['before']['psnr']:+.2f}")
    ratio = [row[name]["grain"] for name in METHODS if name not in ("telea", "harmonic")]
    cells.append("/".join("-" if r is None else f"{r:.2f}" for r in ratio))
    cells.append(
        "/".join(f"{row[name]['psnr_soft']:.1f}" for name in METHODS if name not in ("telea", "harmonic"))
    )
    cells += [f"{ours['seconds']:.3f}", f"{ours['seconds'] / row['telea']['seconds']:.0f}x"]
    return "| " + " | ".join(cells) + " |"


def header() -> str:
    names = ["size", "hole", "clip", "share", *METHODS, "gain over Telea", "to the better"]
    names += ["over before"] if "before" in METHODS else []
    names += ["fine detail", "PSNR softened", "s a frame", "to Telea"]
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def means(rows) -> list[str]:
    out = []
    for size in dict.fromkeys(r["size"] for r in rows):
        for kind in dict.fromkeys(r["kind"] for r in rows):
            of = [r for r in rows if r["size"] == size and r["kind"] == kind]
            gain = {
                k: np.mean([r["propagation"][k] - r["telea"][k] for r in of]) for k in ("psnr", "psnr_frames")
            }
            seconds = [r["propagation"]["seconds"] for r in of]
            out.append(
                f"- {size}, {kind}: mean gain over Telea {gain['psnr']:+.2f} dB pooled, "
                f"{gain['psnr_frames']:+.2f} dB mean of frames; {np.mean(seconds):.3f} s a frame, "
                f"at most {max(seconds):.3f}"
            )
    return out


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
        "--alter", default="none", help="what is done to the clips first, by comma; see cases.alter"
    )
    parser.add_argument(
        "--before", type=Path, help="another checkout of the project, measured beside this one"
    )
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
    print(header())
    rows = []
    for size in args.sizes.split(","):
        rows += run(args.videos, size, args.kinds.split(","), clips, args.frames, args.alter.split(","))
    summary = means(rows)
    memory = {}
    for size in args.sizes.split(","):
        for frames in (args.memory or "").split(",") if args.memory else ():
            memory[f"{size}/{frames}"] = peak_memory(int(frames), size)
            summary.append(f"- {size}, {frames} frames: {memory[f'{size}/{frames}']:.0f} MB above start")
    print("\n".join(summary))
    if args.output:
        # The folder of the clips is the user's own business; everything else is the command as given.
        given = [a for a in sys.argv[1:] if a not in (str(args.videos), str(args.before))]
        command = "python benchmarks/propagation.py " + " ".join(given).replace("--videos", "--videos FOLDER")
        note = "Cells: PSNR pooled / mean of frames / SSIM / E_warp x 1e-3, all in the hole. One thread. "
        note += "Fine detail: its strength in the hole by that around it; PSNR softened: both blurred by 1.5 px first."
        text = [
            f"# Propagation\n\n{machine()}\n\n`{command}`\n\n{note}\n",
            header(),
            *map(line, rows),
            "",
            *summary,
        ]
        args.output.write_text("\n".join(text) + "\n")
        args.output.with_suffix(".json").write_text(json.dumps({"rows": rows, "memory_mb": memory}, indent=1))


if __name__ == "__main__":
    main()
