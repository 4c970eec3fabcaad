"""Dissolves are told from everything else that changes a picture little by little."""

import cv2
import numpy as np
import pytest

from videopainter.ops.dissolve import Dissolve, DissolveSearch

H, W = 60, 108


def picture(seed, width=W):
    rng = np.random.default_rng(seed)
    out = sum(
        cv2.GaussianBlur(rng.normal(size=(H, width, 3)), (0, 0), sigma) * 25 * sigma * 1.8
        for sigma in (1, 3, 9)
    )
    return np.clip(120 + out, 5, 250).astype(np.float32)


def shot(seed, frames, pan=0.0):
    big = picture(seed, 2 * W)
    moves = [np.float32([[1, 0, -pan * t], [0, 1, 0]]) for t in range(frames)]
    return np.stack([cv2.warpAffine(big, move, (W, H), flags=cv2.INTER_LINEAR) for move in moves])


def dissolved(length, pan=0.0, eased=False, pure=12):
    """Two shots of ``pure`` frames each, and ``length - 1`` mixtures between."""
    first, second = (shot(seed, pure + length - 1, pan) for seed in (0, 1))
    shares = np.arange(1, length) / length
    shares = shares**2 * (3 - 2 * shares) if eased else shares
    shares = np.concatenate([np.zeros(pure), shares])[:, None, None, None]
    mixed = (1 - shares) * first + shares * second[np.r_[[0] * pure, 0 : length - 1]]
    return np.concatenate([mixed, second[length - 1 :]])


def found_in(frames, holes=None):
    search, found = DissolveSearch(), []
    for i, frame in enumerate(frames):
        hole = np.zeros((H, W), bool) if holes is None else holes[i]
        one = search.look(i, np.clip(np.rint(frame), 0, 255).astype(np.uint8), hole, i == len(frames) - 1)
        found += [] if one is None else [one]
    return found


@pytest.mark.parametrize(
    "length, pan, eased", [(5, 0, False), (10, 0, False), (10, 0.5, False), (24, 0, True), (16, 0.5, True)]
)
def test_a_dissolve_is_found_with_its_ends_and_shares(length, pan, eased):
    (one,) = found_in(dissolved(length, pan, eased))
    shares = np.clip((np.arange(24 + length) - 11) / length, 0, 1)
    shares = shares**2 * (3 - 2 * shares) if eased else shares
    assert one.before >= 9 and one.after <= 13 + length
    assert shares[one.before] < 0.12 and shares[one.after] > 0.88
    for t in range(one.before + 1, one.after):
        assert abs(one.share(t) - shares[t]) < 0.1


def test_it_is_found_behind_a_hole_and_under_noise_and_at_the_end_of_a_video():
    frames = dissolved(10)
    holes = np.zeros((len(frames), H, W), bool)
    for t, hole in enumerate(holes):
        hole[10:50, 20 + 2 * t : 40 + 2 * t] = True
    hidden = np.where(holes[..., None], (255, 0, 255), frames)
    assert [(d.before, d.after) for d in found_in(hidden, holes)] == [(11, 21)]
    noise = np.random.default_rng(3).normal(0, 2, frames.shape)
    assert len(found_in(frames + noise)) == 1
    assert [(d.before, d.after) for d in found_in(frames[:22])] == [(11, 21)]


def unchanging():
    still = np.repeat(picture(0)[None], 30, 0)
    yield "a still picture", still
    yield "a pan", shot(0, 30, 3.0)
    yield "a slow pan", shot(0, 30, 0.3)
    yield "a cut", np.concatenate([still[:15], np.repeat(picture(1)[None], 15, 0)])
    for step in (0.97, 0.94, 1.03):
        light = (step ** np.arange(30))[:, None, None, None]
        yield f"a fade by {step}", still * light * (0.5 if step > 1 else 1)
        yield f"a fade by {step} in a pan", shot(0, 30, 2.0) * light * (0.5 if step > 1 else 1)
    evenly = np.linspace(1, 0, 30)[:, None, None, None]
    yield "a fade to black", still * evenly
    yield "a fade to white", still * evenly + 255 * (1 - evenly)
    flash = still.copy()
    flash[14:17] = flash[14:17] * np.array([1.9, 1.4, 1.15])[:, None, None, None] + 10
    yield "a flash", flash
    wiped = still.copy()
    for t in range(30):
        wiped[t, :, : 4 * t] = picture(1)[:, : 4 * t]
    yield "a wipe", wiped
    noise = np.random.default_rng(3).normal(0, 10, still.shape)
    yield "noise", still + noise


@pytest.mark.parametrize("frames", [pytest.param(f, id=name) for name, f in unchanging()])
def test_nothing_else_is_a_dissolve(frames):
    assert found_in(frames) == []


def test_two_dissolves_one_after_the_other():
    first = dissolved(8)
    second = dissolved(12)[::-1]  # begins where the first one ended
    found = found_in(np.concatenate([first, second]))
    assert len(found) == 2 and all(isinstance(one, Dissolve) for one in found)


def test_pictures_of_any_size_are_looked_at():
    search = DissolveSearch()
    for i in range(8):
        assert search.look(i, np.full((3, 2, 3), 40 * (i % 2), np.uint8), np.zeros((3, 2), bool)) is None
        assert search.look(i, np.zeros((3, 2, 3), np.uint8), np.ones((3, 2), bool)) is None
