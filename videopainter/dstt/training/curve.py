"""The curve of a training as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure


def draw_curve(losses: Sequence[float], scores: Sequence[tuple[int, dict[str, float]]]) -> bytes:
    """The loss at every step, smoothed, above the PSNR in the hole at its steps, as a PNG file of 640 x 480.

    Args:
        losses: of step 1, 2, ... scores: (step, kind of hole -> dB), shown as the gain since the first.
    """
    figure = Figure(figsize=(6.4, 4.8), dpi=100, layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    values = np.asarray(losses, np.float64)
    if len(values):
        reach = max(1, len(values) // 50)
        smooth = np.convolve(np.pad(values, (reach - 1, 0), "edge"), np.ones(reach) / reach, "valid")
        above.plot(np.arange(1, len(values) + 1), smooth)
    above.set(title="loss")
    for kind in sorted({kind for _, score in scores for kind in score}):
        steps, found = zip(*((step, score[kind]) for step, score in scores if kind in score))
        below.plot(steps, np.array(found) - found[0], label=f"{kind}: {found[-1]:.2f} dB")
    if scores:
        below.legend()
    below.set(title="PSNR in the hole since the first, dB", xlabel="steps")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
