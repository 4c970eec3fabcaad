"""Paste what an engine inpainted back into the source, so that nothing outside the hole can change."""

from collections.abc import Iterable, Iterator

import cv2
import numpy as np

from videopainter.masks import bounding_box


def composite(
    originals: Iterable[np.ndarray],
    holes: Iterable[np.ndarray],
    inpainted: Iterable[np.ndarray],
    feather: float,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (original, finished) for each frame: `paste` of original, inpainted and hole, in order.

    Raises ValueError if an engine yields more or fewer frames than there are, or of another shape or type.
    """
    inpainted = iter(inpainted)
    for i, (original, hole) in enumerate(zip(originals, holes)):
        frame = next(inpainted, None)
        if frame is None:
            raise ValueError(f"The engine stopped after {i} frames, before the end of the video.")
        if frame.shape != original.shape or frame.dtype != np.uint8:
            raise ValueError(
                f"The engine made frame {i} as {frame.dtype} {frame.shape}, not uint8 {original.shape}."
            )
        yield original, paste(original, frame, hole, feather)
    if next(inpainted, None) is not None:
        raise ValueError("The engine made more frames than the video has.")


def paste(original: np.ndarray, inpainted: np.ndarray, hole: np.ndarray, feather: float) -> np.ndarray:
    """One finished frame, uint8 (height, width, 3): `inpainted` inside `hole`, `original` outside it.

    The two fade into each other over the outermost `feather` pixels inside the hole. Pixels outside the hole
    are those of `original`, bit for bit. `inpainted`, `original`: uint8 (height, width, 3); `hole`: bool
    (height, width).
    """
    out = original.copy()
    box = bounding_box(hole, 1)
    if box is None:
        return out
    alpha = fade(hole[box], feather)[..., None]
    before, after = original[box].astype(np.float32), inpainted[box].astype(np.float32)
    mixed = np.rint(before + alpha * (after - before)).astype(np.uint8)
    out[box] = np.where(hole[box][..., None], mixed, original[box])
    return out


def fade(hole: np.ndarray, feather: float) -> np.ndarray:
    """float32 (height, width): 0 outside the hole, rising to 1 at `feather` pixels inside it.

    The edge of the picture is no edge of the hole: a hole that touches it is filled fully up to there.
    """
    depth = cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.minimum(depth / (feather + 1), 1).astype(np.float32)
