"""The measures of VideoPainter's paper for one clip, and the tables of a benchmark.

Over the frame and over what is known (outside the hole): PSNR, SSIM, LPIPS, MSE and MAE of colours 0 to 1, mean of the
frames' own; CLIP similarity of the frames with the caption, of the whole picture and of the hole, and in an edit of the
hole with the new thing's caption; temporal consistency; removal coherence (`coherence.py`), which asks for no truth.
SSIM has the usual Gaussian window (11 pixels, sigma 1.5) over each channel. What is outside the region is black in both
pictures, as published. LPIPS in the hole is a mean of its map there.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import cv2
import numpy as np

NAMES = ("psnr", "ssim", "lpips", "mse", "mae")
COLUMNS = (
    *NAMES,
    *(f"{name}_known" for name in NAMES),
    "lpips_hole",
    "clip",
    "clip_hole",
    "clip_thing",
    "consistency",
    "consistency_hole",
    "rc_s",
    "rc_t",
)
# What the paper's table calls them, and how often they are multiplied there.
PAPER = {
    "psnr_known": ("PSNR", 1),
    "ssim_known": ("SSIM", 1),
    "lpips_known": ("LPIPS x 100", 100),
    "mse_known": ("MSE x 100", 100),
    "mae_known": ("MAE x 100", 100),
    "clip": ("CLIP Sim", 1),
    "clip_hole": ("CLIP Sim (M)", 1),
    "clip_thing": ("CLIP Sim (thing)", 1),
    "consistency": ("TC", 1),
    "vfid": ("VFID", 1),
    "rc_s": ("RC-S", 1),
    "rc_t": ("RC-T", 1),
}
PERFECT = 60.0  # dB that a frame without error counts for
Figures = dict[str, "float | None"]


def ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Of float ``(h, w, 3)`` in 0..1, mean over the pixels whose window lies inside the picture, and channels."""
    c1, c2, rim = 0.01**2, 0.03**2, 5
    x, y = one.astype(np.float64), other.astype(np.float64)

    def smooth(a):
        return cv2.GaussianBlur(a, (11, 11), 1.5)

    mx, my = smooth(x), smooth(y)
    vx, vy, cxy = smooth(x * x) - mx * mx, smooth(y * y) - my * my, smooth(x * y) - mx * my
    values = ((2 * mx * my + c1) * (2 * cxy + c2)) / ((mx * mx + my * my + c1) * (vx + vy + c2))
    return float(values[rim:-rim, rim:-rim].mean())


def measure(
    result: np.ndarray,
    truth: np.ndarray,
    masks: np.ndarray,
    caption: str | None = None,
    lpips=None,
    clip=None,
    coherence=None,
    thing: str | None = None,
) -> Figures:
    """Figures of a clip by the names of `COLUMNS`; None where there is nothing to measure them with.

    Args:
        result, truth: uint8 ``(n, h, w, 3)``. masks: bool ``(n, h, w)``, the hole.
        caption: what the video shows, for CLIP. lpips: an `LPIPS`. clip: a `ClipMeasures`.
        coherence: a `RemovalCoherence`. thing: of an edit, what the hole shows, for CLIP.

    Raises ValueError where lengths or sizes differ.
    """
    if not result.shape == truth.shape or result.shape[:3] != masks.shape:
        raise ValueError(
            f"The result is {result.shape}, the truth {truth.shape}, the masks {masks.shape}; they must agree."
        )
    sums: dict[str, list[float]] = {name: [] for name in COLUMNS}
    for got, want, hole in zip(result, truth, masks):
        for suffix, keep in (("", None), ("_known", ~hole)):
            a, b = (x if keep is None else x * keep[..., None].astype(np.uint8) for x in (got, want))
            for name, value in _pictures(a, b).items():
                sums[name + suffix].append(value)
            if lpips is not None:
                sums[f"lpips{suffix}"].append(float(lpips.frames(a[None], b[None])[0]))
        if lpips is not None and hole.any():
            sums["lpips_hole"].append(
                float(lpips.frames(got[None], want[None], spatial=True)[0][hole].mean())
            )
    found: Figures = {name: float(np.mean(values)) if values else None for name, values in sums.items()}
    if clip is not None:
        frames, holes = list(result), list(masks)
        if caption:
            found["clip"], found["clip_hole"] = (
                clip.similarity(frames, caption),
                clip.similarity(frames, caption, holes),
            )
        if thing:
            found["clip_thing"] = clip.similarity(frames, thing, holes)
        found["consistency"], found["consistency_hole"] = (
            clip.consistency(frames),
            clip.consistency(frames, holes),
        )
    if coherence is not None:
        found["rc_s"], found["rc_t"] = coherence.spatial(result, masks), coherence.temporal(result, masks)
    return found


def _pictures(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    x, y = a.astype(np.float64) / 255, b.astype(np.float64) / 255
    error = float(((x - y) ** 2).mean())
    psnr = PERFECT if error == 0 else min(PERFECT, float(-10 * np.log10(error)))
    return {"psnr": psnr, "ssim": ssim(x, y), "mse": error, "mae": float(np.abs(x - y).mean())}


def mean(figures: Sequence[Figures]) -> Figures:
    """Of clips, over those that have a figure."""
    names = list(dict.fromkeys(name for one in figures for name in one))
    known = {name: [one[name] for one in figures if one.get(name) is not None] for name in names}
    return {name: float(np.mean(values)) if values else None for name, values in known.items()}  # type: ignore[arg-type]


def as_csv(rows: dict[str, Figures], means: Figures) -> str:
    """A line a clip, and the mean."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(means)
    writer.writerow(["video", *names])
    for name, figures in (*rows.items(), ("mean", means)):
        writer.writerow([name, *("" if figures.get(n) is None else f"{figures[n]:.6g}" for n in names)])
    return text.getvalue()


def as_markdown(means: dict[str, Figures]) -> str:
    """The paper's table: a line a method."""
    names, lines = _shown(means), []
    lines.append("| method | " + " | ".join(PAPER[name][0] for name in names) + " |")
    lines.append("|---|" + "---|" * len(names))
    for method, figures in means.items():
        lines.append(f"| {method} | " + " | ".join(_cells(figures, names)) + " |")
    return "\n".join(lines) + "\n"


def as_latex(means: dict[str, Figures]) -> str:
    """The same as a tabular."""
    names = _shown(means)
    lines = [f"\\begin{{tabular}}{{l{'r' * len(names)}}}", "\\hline"]
    lines.append(
        "Method & " + " & ".join(PAPER[n][0].replace(" x 100", "$\\times 100$") for n in names) + r" \\"
    )
    lines.append("\\hline")
    for method, figures in means.items():
        said = "".join("\\" + letter if letter in "_&%#$" else letter for letter in method)
        lines.append(f"{said} & " + " & ".join(_cells(figures, names)) + r" \\")
    return "\n".join([*lines, "\\hline", "\\end{tabular}"]) + "\n"


def _shown(means: dict[str, Figures]) -> list[str]:
    return [name for name in PAPER if any(figures.get(name) is not None for figures in means.values())]


def _cells(figures: Figures, names: list[str]) -> list[str]:
    values = [(figures.get(name), PAPER[name][1]) for name in names]
    return ["-" if value is None else f"{value * factor:.2f}" for value, factor in values]
