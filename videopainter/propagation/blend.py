"""Blending: seams removed, and what was fetched weighed against what would be guessed."""

from __future__ import annotations

import cv2
import numpy as np

from videopainter.ops.channels import average, largest
from videopainter.ops.harmonic import extend_smoothly, thinness

_EXPOSURE = 40.0  # grey levels; a larger difference is another object, not another exposure
# Of a large error that the references are expected to make, this much is held against them: less than 1 because
# a slightly wrong sharp pixel looks better than a blur of the same squared error.
_HELD_AGAINST = 0.6
# Of an error of so many squared grey levels half of that, of a smaller one less: grain and the finest detail, which
# no guess would know either, make up most of it.
_HALF_HELD = 800.0
# Where there is noise, which is already taken off the errors, the same share of all errors.
_HELD_IN_NOISE = 0.4
# Squared grey levels of expected error at which what was fetched counts half against the smooth guess, and the side of
# the box in pixels over which the two are compared: an edge that lies a pixel off is no fault of the guess.
_SURE, _COMPARED = 30.0, (9, 9)


def remove_seam(
    fetched: np.ndarray, frame: np.ndarray, comparable: np.ndarray, noise: float = 0.0
) -> np.ndarray:
    """Add the harmonic extension of the difference at the border (a membrane, as in Perez et al. 2003).

    Args:
        fetched: float32 ``(h, w, 3)``, what the references say, also around the hole where they know it.
        frame: uint8 ``(h, w, 3)``, the frame itself.
        comparable: bool ``(h, w)``: known in the frame and fetched from a reference.
        noise: standard deviation of the frame's, in grey levels.
    """
    difference = frame.astype(np.float32) - fetched
    use = comparable & (largest(np.abs(difference)) < _EXPOSURE + 3 * noise)
    membrane = extend_smoothly(difference, use, sweeps=8) if use.sum() >= 8 else None
    return fetched if membrane is None else fetched + membrane


def fetched_share(error: np.ndarray, doubt: np.ndarray, noise: float = 0.0) -> np.ndarray:
    """How much of what was fetched goes into the result, float32 ``(h, w)``; the rest is guessed smoothly.

    Good matches stay as they are; a reference that does not fit (a passer-by, another depth) fades out.

    Args:
        error, doubt: float32 ``(h, w)``, expected squared errors of what was fetched, inf where nothing was, and of the
            smooth guess.
        noise: standard deviation of the frame's, in grey levels; 0 where there is none to speak of.
    """
    known = np.isfinite(error)
    error = np.where(known, error, 1)
    held = _HELD_IN_NOISE if noise else _HELD_AGAINST * error / (error + _HALF_HELD)
    share = doubt / (doubt + held * error + 1e-6)
    return np.where(known, share, 0).astype(np.float32)


def contradicted(
    doubt: np.ndarray,
    smooth: np.ndarray,
    fetched: np.ndarray,
    error: np.ndarray,
    hole: np.ndarray,
    noise: float = 0.0,
) -> np.ndarray:
    """``doubt``, and more where a smooth guess is far from what was fetched with little error.

    The surroundings alone do not tell that the guess is drawn from something else across the hole: an arm would leave
    a haze on the plain wall above it. Over thin strokes the guess is never drawn from afar.

    Args:
        doubt, error: as `fetched_share` takes them. smooth, fetched: float32 ``(h, w, 3)``.
        hole: bool ``(h, w)``. noise: standard deviation that ``fetched`` has at most, in grey levels.
    """
    known = np.isfinite(error)
    error = np.where(known, error, 0)
    away = smooth - fetched
    wrong = average(away * away) - noise * noise - error
    wrong *= known * _SURE / (_SURE + error)
    wrong = cv2.blur(wrong, _COMPARED) / np.maximum(cv2.blur(known.astype(np.float32), _COMPARED), 1e-3)
    return np.maximum(doubt, wrong * (1 - thinness(hole)))
