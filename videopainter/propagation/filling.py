"""One view filled from what other frames show, without regard to how the frames before it were filled."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from videopainter.ops.channels import average
from videopainter.ops.grain import denoised
from videopainter.ops.harmonic import expected_error
from videopainter.ops.motion import Motion
from videopainter.propagation.background import steady, steady_references, undisputed
from videopainter.propagation.blend import contradicted, fetched_share, remove_seam
from videopainter.propagation.bridge import bridge
from videopainter.propagation.frames import FrameStore
from videopainter.propagation.hole_view import HoleView, hole_views
from videopainter.propagation.layers import mixed
from videopainter.propagation.references import choose, fetch, with_movers
from videopainter.propagation.smooth import smooth_fill

# Grey levels by which half of the pixels around a hole may differ from the steady background. Noise and coding make
# one or two; passers-by and changes of light, which are no reason to follow motion, stay below half, or are removed.
_RESTLESS = 2.5
# Grey levels that a middle grey changes by from which on the light is another one; less is the camera's exposure.
_RELIT = 6.0
_CLEAR = 1.2  # px, sigma over which noise is averaged before anything is guessed from the border
_HALF_SURE = 400.0  # squared grey levels of expected error at which confidence is half


@dataclass
class Filled:
    """A view with its hole filled as far as other frames and its border tell.

    picture: float32 (h, w, 3), the frame without its noise outside the hole. share: float32 (h, w, 1), of what was
    fetched in it. unseen: bool (h, w), what of the hole no frame shows. sure: uint8, of each pixel of the hole, see
    `Confidence`. fetched: float32 (h, w, 3), and around: bool (h, w), where it is known beside the hole; only where
    there is noise.
    """

    view: HoleView
    picture: np.ndarray
    share: np.ndarray
    unseen: np.ndarray
    sure: np.ndarray
    fetched: np.ndarray | None
    around: np.ndarray | None


def fill(view: HoleView, motion: Motion) -> Filled:
    """Fill the hole of a view; there is one."""
    hole, frame = view.hole, np.ascontiguousarray(view.frame)
    fetched, error = _fetched(view, motion, frame)
    unseen = hole & ~np.isfinite(error)
    sure = 255 / (1 + error[hole] / _HALF_SURE)  # 0 where the error is inf
    sure = np.where(unseen[hole], 0, np.maximum(sure, 1)).astype(np.uint8)
    # What is guessed from the border is guessed without its noise, which would become streaks.
    clear = denoised(frame, hole, _CLEAR) if view.noise else frame
    # How good such a guess can be is told by the frame itself: averaging takes texture out as well.
    doubt = expected_error(frame, hole)
    smooth = smooth_fill(clear, hole, 1 - fetched_share(error, doubt, view.noise))
    doubt = contradicted(doubt, smooth, fetched, error, hole, view.noise)
    share = fetched_share(error, doubt, view.noise)[..., None]
    picture = share * fetched + (1 - share) * smooth
    picture[~hole] = clear[~hole]
    if not view.noise:
        return Filled(view, picture, share, unseen, sure, None, None)
    return Filled(view, picture, share, unseen, sure, fetched, np.isfinite(error) & ~hole)


def _fetched(view: HoleView, motion: Motion, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What other frames say: float32 ``(h, w, 3)``, and its expected squared error, inf where nothing."""
    dissolve = view.store.dissolve(view.t)
    if dissolve is not None and view.store.shows(view.t):
        fetched, error = mixed(view, motion, dissolve, partial(_plate, motion))
        return remove_seam(fetched, frame, np.isfinite(error) & ~view.hole, view.noise), error
    sides = view.store.sides(view.t)
    if sides is None:
        return _propagated(view, motion, frame)
    fetched, error = bridge(view, motion, *sides)
    if np.isfinite(error).all():
        return fetched, error
    # Both sides have holes, or the camera has moved away from them: others may know.
    more, doubt = _propagated(view, motion, frame)
    gap = ~np.isfinite(error)
    return np.where(gap[..., None], more, fetched), np.where(gap, doubt, error)


def _plate(motion: Motion, store: FrameStore, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Frame ``i`` with its holes filled, and what is unknown of it all the same, see `mixed`."""
    picture, unknown = store.colour(i).copy(), np.zeros((store.height, store.width), np.uint8)
    for view in hole_views(store, i):
        if view.hole.any():
            filled = fill(view, motion)
            picture[view.pixels][view.hole] = np.clip(np.rint(filled.picture[view.hole]), 0, 255)
            unknown[view.pixels][filled.unseen] = 255
    return picture, unknown


def _propagated(view: HoleView, motion: Motion, frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # Where the light changes, a shadow may move as well, and near frames know best.
    if view.camera_is_fixed and not _relit(view, steady_references(view)):
        fetched, error = steady(view)
        around = np.isfinite(error) & ~view.hole
        fetched = remove_seam(fetched, frame, around, view.noise)
        if not _restless(fetched, frame, around):
            moved = with_movers(view, motion, fetched, error)
            if moved is None:
                return fetched, error
            return remove_seam(moved[0], frame, around, view.noise), moved[1]
    references = choose(view)
    if not references:
        return frame.astype(np.float32), np.full(view.size, np.inf, np.float32)
    fetched, error = fetch(view, motion, references)
    fetched = remove_seam(fetched, frame, np.isfinite(error) & ~view.hole, view.noise)
    if not view.background_stands:
        return fetched, error
    # Another light, or a large thing passes for the camera: near frames follow what moves, all know the rest.
    still, doubt = undisputed(view)
    if _restless(still, frame, np.isfinite(doubt) & ~view.hole):
        return fetched, error
    known = np.isfinite(doubt)
    return np.where(known[..., None], still, fetched), np.where(known, np.minimum(doubt, error), error)


def _relit(view: HoleView, references: list[int]) -> bool:
    """Whether one of the references is in another light."""
    # Over a fade it is the first one, so that the others need not be looked at.
    for some in (references[:1], references[1:]):
        view.store.measure_lights(view.t, some)
        lights = (view.store.light(view.t, i) for i in some)
        if any(light is not None and light.change() > _RELIT for light in lights):
            return True
    return False


def _restless(fetched: np.ndarray, frame: np.ndarray, around: np.ndarray) -> bool:
    """Whether a fixed camera's background moves by itself (leaves, water), so that flow serves it better."""
    misfit = average(np.abs(fetched[around] - frame[around]))
    return len(misfit) > 0 and float(np.median(misfit)) > _RESTLESS
