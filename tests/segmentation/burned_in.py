"""Captions drawn over real frames, and how well masks fit them."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont


def burn(
    frames,
    text,
    place,
    size,
    first,
    last,
    fill="white",
    outline="black",
    width=0,
    speed=(0, 0),
    fade=0,
    font=None,
):
    """Draw `text` over uint8 RGB frames first..last-1, in place; `place`: (x, y) in the frame `first`."""
    font = ImageFont.load_default(size)
    for i in range(first, last):
        picture = Image.fromarray(frames[i])
        at = (place[0] + speed[0] * (i - first), place[1] + speed[1] * (i - first))
        ImageDraw.Draw(picture).multiline_text(
            at, text, fill, font, stroke_width=width, stroke_fill=outline, align="center"
        )
        shown = 1.0 if not fade else min(1.0, (i - first + 1) / fade, (last - i) / fade)
        frames[i] = np.round(frames[i] + shown * (np.asarray(picture).astype(float) - frames[i]))


def burn_picture(frames, name, place, first, last):
    """Draw the text of `data/caption_NAME.png` (its fill, and as alpha that with its outline), white on black."""
    picture = Image.open(Path(__file__).parent / "data" / f"caption_{name}.png")
    fill, both = (np.asarray(layer, float)[..., None] / 255 for layer in picture.split())
    x, y = place
    for frame in frames[first:last]:
        under = frame[y : y + fill.shape[0], x : x + fill.shape[1]]
        under[:] = np.round(255 * fill + (1 - both) * under)


def fit(masks, frames, clean, least=24):
    """(of the text's pixels the covered part, false pixels / all pixels of the video, worst frame's coverage)."""
    text = covered = false = 0
    worst = 1.0
    for mask, frame, before in zip(masks, frames, clean):
        change = np.abs(frame.astype(int) - before).max(axis=2)
        here = change > least
        text += here.sum()
        covered += (here & mask).sum()
        false += (mask & (change <= 4)).sum()
        if here.sum() > 100:
            worst = min(worst, (here & mask).sum() / here.sum())
    return covered / max(text, 1), false / (len(frames) * frames[0][..., 0].size), worst
