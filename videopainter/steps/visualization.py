"""Pictures for people: the object marked on a frame, and original | masked | mask | result side by side."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from videopainter.ops.resize import resize
from videopainter.utils.atomic import whole_file

PANELS = ("original", "masked", "mask", "result")
PANEL_HEIGHT, PANEL_WIDTH = 480, 720  # at most: four of them still play on every player
TINT = np.array([255, 40, 40], np.float32)
EFFECT_TINT = np.array([40, 120, 255], np.float32)
GREEN, BLUE, WHITE = (40, 220, 60), (40, 90, 255), (255, 255, 255)
MARGIN_GREY = 110  # what the dilation added to the object, in the mask panel
FARTHEST = 30_000  # pixels outside the frame to which a box is drawn


def marked(
    frame: np.ndarray, mask: np.ndarray, prompts: Iterable = (), effects: np.ndarray | None = None
) -> np.ndarray:
    """uint8 (height, width, 3): `frame` with `mask` (bool) tinted red and outlined, its `effects` (bool) blue.

    The `ClickPrompt`s and `BoxPrompt`s of frame 0 among `prompts` are drawn too: green, negative ones blue.
    """
    out = frame.copy()
    line = max(1, round(min(frame.shape[:2]) / 400))
    if effects is not None:
        out[effects] = (0.5 * out[effects] + 0.5 * EFFECT_TINT).astype(np.uint8)
    if mask.any():
        out[mask] = (0.5 * out[mask] + 0.5 * TINT).astype(np.uint8)
        outline, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(out, outline, -1, (255, 255, 255), line)
    for prompt in prompts:
        if prompt.frame != 0:
            continue
        if hasattr(prompt, "mode"):
            continue  # painted pixels: the mask shows them
        if hasattr(prompt, "x0"):
            ends = (np.clip(((prompt.x0, prompt.y0), (prompt.x1, prompt.y1)), -FARTHEST, FARTHEST)).round()
            corners = [(int(x), int(y)) for x, y in ends]
            cv2.rectangle(out, *corners, GREEN, 2 * line)
        else:
            place = (round(prompt.x), round(prompt.y))
            cv2.circle(out, place, 5 * line, GREEN if prompt.positive else BLUE, -1)
            cv2.circle(out, place, 5 * line, (255, 255, 255), line)
    return out


def seen_hole(frame: np.ndarray, hole: np.ndarray, unseen: np.ndarray | None) -> np.ndarray:
    """uint8 (height, width, 3): `hole` (bool) tinted green, and red where it is `unseen`; white if that is None."""
    out = frame.copy()
    parts = [(hole, WHITE)] if unseen is None else [(hole & ~unseen, GREEN), (hole & unseen, TINT)]
    for part, tint in parts:
        out[part] = (0.5 * out[part] + 0.5 * np.asarray(tint, np.float32)).astype(np.uint8)
    return out


def panels(original: np.ndarray, mask: np.ndarray, hole: np.ndarray, result: np.ndarray) -> np.ndarray:
    """uint8 (h, 4 w, 3), labelled; (h, w) from `panel_size`.

    Masked: what an engine gets to see. Mask: the object white, what dilation added to it grey.
    """
    masked = cv2.copyTo(original, (~hole).view(np.uint8))
    grey = np.zeros(mask.shape, np.uint8)
    grey[hole], grey[mask] = MARGIN_GREY, 255
    row = []
    for name, picture in zip(PANELS, (original, masked, grey, result)):
        small = resize(picture, panel_size(original.shape[:2]), "area")
        # The label is not for the picture itself.
        row.append(cv2.cvtColor(small, cv2.COLOR_GRAY2RGB) if small.ndim == 2 else small.copy())
        _label(row[-1], name)
    return np.concatenate(row, axis=1)


def panel_size(size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of a panel: as the video, made smaller where it is large; both even."""
    scale = min(1.0, PANEL_HEIGHT / size[0], PANEL_WIDTH / size[1])
    return tuple(max(2, int(side * scale) // 2 * 2) for side in size)


def save_image(path: Path, picture: np.ndarray) -> None:
    """Write uint8 RGB (height, width, 3) or grey (height, width) as PNG; whole or not at all."""
    from PIL import Image

    with whole_file(path) as file:
        Image.fromarray(picture).save(file, "PNG")


def _label(picture: np.ndarray, text: str) -> None:
    size = max(0.35, picture.shape[0] / 600)
    place = (round(8 * size) + 2, round(26 * size) + 2)
    for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 1)):
        width = max(1, round(thickness * size))
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, colour, width, cv2.LINE_AA)
