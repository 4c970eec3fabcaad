"""Made-up clips whose truth behind the hole is known, and the engine run on them.

What the hole hides is magenta before it goes in: whatever leaks shows at once.
"""

import cv2
import numpy as np

from videopainter.masks import MaskTrack
from videopainter.propagation import PropagationEngine
from videopainter.video import ArraySource

H, W, N = 96, 128, 20
MAGENTA = (255, 0, 255)


def texture(height=H, width=W, seed=0):
    """uint8 (height, width, 3): blobs of several sizes between about 30 and 220, too fine to be guessed."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3))
    for sigma in (1.2, 3, 8):
        layer = cv2.GaussianBlur(rng.normal(size=(height, width, 3)), (0, 0), sigma)
        picture += layer / layer.std()
    return np.clip(125 + 25 * picture, 30, 220).astype(np.uint8)


def handheld(n=N, shift=(0.0, 0.0), shake=0.0, turn=0.0, height=H, width=W, seed=0):
    """uint8 (n, height, width, 3): one texture seen by a camera that pans, shakes and turns."""
    rng = np.random.default_rng(seed + 1)
    big = texture(2 * height, 2 * width, seed)
    frames = []
    for t in range(n):
        angle = float(rng.uniform(-turn, turn))
        pose = cv2.getRotationMatrix2D((width, height), angle, 1.0)
        pose[:, 2] -= np.array([width / 2, height / 2]) + np.array(shift) * t + rng.uniform(-shake, shake, 2)
        frames.append(cv2.warpAffine(big, pose, (width, height), flags=cv2.INTER_CUBIC))
    return np.stack(frames)


def moving_hole(n=N, size=(26, 20), start=(12, 8), step=(4, 2), height=H, width=W):
    """bool (n, height, width): a rectangle of size x, y that starts at x, y and moves by step a frame."""
    masks = np.zeros((n, height, width), bool)
    for t in range(n):
        x, y = start[0] + step[0] * t, start[1] + step[1] * t
        masks[t, max(y, 0) : max(y + size[1], 0), max(x, 0) : max(x + size[0], 0)] = True
    return masks


def hidden(truth, masks):
    frames = truth.copy()
    frames[masks] = MAGENTA
    return frames


def fill(truth, masks, radius=60, grain="auto", workers=None, **options):
    """The engine's result, with what holds for every result checked."""
    frames = hidden(truth, masks)
    engine = PropagationEngine(radius=radius, grain=grain, workers=workers)
    results = list(engine(ArraySource(frames), MaskTrack.from_array(masks), **options))
    assert len(results) == len(truth)
    assert all(r.dtype == np.uint8 and r.shape == truth.shape[1:] for r in results)
    results = np.stack(results)
    np.testing.assert_array_equal(results[~masks], truth[~masks])
    return results


def db(result, truth, where):
    return float(
        10 * np.log10(255**2 / max(np.mean((result[where] - truth[where].astype(float)) ** 2), 1e-6))
    )


def change(result, masks):
    """Mean difference between neighbouring frames where both have a hole."""
    both = masks[1:] & masks[:-1]
    return float(np.abs(np.diff(result.astype(int), axis=0))[both].mean())


def telea(truth, masks):
    frames = hidden(truth, masks)
    return np.stack([cv2.inpaint(f, m.view(np.uint8), 3, cv2.INPAINT_TELEA) for f, m in zip(frames, masks)])


def temporal_copy(truth, masks):
    """Every hidden pixel from the nearest frame that shows the same place of the frame."""
    out = truth.copy()
    for t in range(len(truth)):
        missing = masks[t].copy()
        for i in sorted(range(len(truth)), key=lambda i: abs(i - t)):
            use = missing & ~masks[i]
            out[t][use] = truth[i][use]
            missing &= masks[i]
        assert not missing.any()
    return out


# -- what other frames show ------------------------------------------------------------------------------


def scene(seed, warm):
    grey = texture(seed=seed)[..., 0].astype(float)
    high, low = 140 + grey / 2.5, grey / 4
    return np.rint(np.dstack([high, low, low] if warm else [low, low, high])).astype(np.uint8)
