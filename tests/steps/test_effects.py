import json
import threading

import cv2
import numpy as np
import pytest

from videopainter.engines.base import Cancelled, EngineError
from videopainter.inpaint import inpaint_video
from videopainter.masks import MaskTrack
from videopainter.steps.effects import AUTO_LIMIT, check_effects, find_effects
from videopainter.steps.effects import scene as scene_module
from videopainter.steps.effects.scene import Piece, aligned, clean_plate, surroundings, surroundings_known
from videopainter.video import ArraySource

H, W, N = 120, 160, 30


def ground(seed=0, height=H, width=W):
    rng = np.random.default_rng(seed)
    layers = [cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), sigma) for sigma in (1.5, 8)]
    grey = 150 + sum(12 * layer / layer.std() for layer in layers)
    return np.clip(grey[..., None] * (1.0, 0.95, 0.85), 0, 255)


def scene(depth=0.35, pan=0.0, step=3.0, noise=1.0, other=False, mirror=0.0, soft=1.5):
    """(frames, objects, shadows): a box moves over the ground and casts a soft shadow to its lower right.

    With ``mirror``, so much of its light comes back from the ground below it, and that is the shadow's place.
    """
    rng = np.random.default_rng(5)
    wide = ground(width=W + 100)
    frames, objects, shadows = [], [], []
    for t in range(N):
        x, left = int(20 + step * t), int(pan * t)
        picture = wide[:, left : left + W].copy()
        shade = np.zeros((H, W), np.float32)
        cv2.ellipse(shade, (x + 24, 78), (18, 7), 0, 0, 360, 1, -1)
        shade = cv2.GaussianBlur(shade, (0, 0), soft)
        picture *= 1 - depth * shade[..., None]
        mask = np.zeros((H, W), bool)
        mask[40:80, x : x + 16] = True
        picture[mask] = (30, 140, 40)
        if mirror:
            picture[44:58, x : x + 16] = (220, 60, 50)
            picture[58:64, x + 4 : x + 12] = (240, 230, 60)
            below = np.s_[80:120, x : x + 16]
            picture[below] = (1 - mirror) * picture[below] + mirror * picture[79:39:-1, x : x + 16]
            shade = np.zeros((H, W), np.float32)
            shade[below] = 1
        if other:  # somebody else, dark and without a shadow, walks the other way
            picture[50:86, 140 - 4 * t + 10 : 150 - 4 * t + 10] = (60, 40, 70)
        frames.append(np.clip(picture + rng.normal(0, noise, picture.shape), 0, 255).astype(np.uint8))
        objects.append(mask)
        shadows.append((shade > 0.3) & ~mask)
    return np.stack(frames), np.stack(objects), np.stack(shadows)


def find(frames, objects, effects="auto"):
    found = find_effects(ArraySource(frames), MaskTrack.from_array(objects), effects)
    return np.zeros(objects.shape, bool) if found is None else np.stack(list(found))


@pytest.mark.parametrize("depth, pan", [(0.15, 0), (0.35, 0), (0.5, 0), (0.35, 1.0)])
def test_a_shadow_that_moves_with_its_object_is_found(depth, pan):
    frames, objects, shadows = scene(depth, pan)
    found = find(frames, objects)
    assert (found & shadows).sum() > 0.85 * shadows.sum()
    near = np.stack([cv2.dilate(s.view(np.uint8), np.ones((15, 15), np.uint8)) for s in shadows]) > 0
    assert (found & ~near).sum() < 0.15 * found.sum()
    assert not (found & objects).any()


@pytest.mark.parametrize("soft, pan", [(5.0, 0), (4.0, 0.5)])
def test_a_soft_shadow_is_found_to_where_it_fades(soft, pan):
    frames, objects, shadows = scene(0.3, pan, soft=soft)
    assert (find(frames, objects) & shadows).sum() > 0.85 * shadows.sum()


def painted_beside(frames, rows, wide, colour):
    """bool (n, h, w): a box that goes along to the left of the object of `scene`, painted into the frames.

    `colour`: called as colour(t, colours so far).
    """
    box = np.zeros(frames.shape[:3], bool)
    for t, frame in enumerate(frames):
        x = int(20 + 3 * t)
        box[t, rows, x - wide : x] = True
        frame[box[t]] = np.asarray(colour(t, frame[box[t]])).astype(np.uint8)
    return box


@pytest.mark.parametrize("mirror, pan", [(0.2, 0), (0.5, 0), (0.35, 0.5)])
def test_a_reflection_goes_along(mirror, pan):
    frames, objects, mirrored = scene(0.0, pan, mirror=mirror)
    found = find(frames, objects)
    assert (found & mirrored).sum() > 0.85 * mirrored.sum()
    near = np.stack([cv2.dilate(m.view(np.uint8), np.ones((15, 15), np.uint8)) for m in mirrored]) > 0
    assert (found & ~near).sum() < 0.15 * found.sum()


def test_what_the_object_holds_is_not_its_shadow_and_does_not_hide_it():
    frames, objects, shadows = scene()
    bag = painted_beside(frames, slice(44, 60), 12, lambda t, colours: (250, 250, 120))
    found = find(frames, objects)
    assert (found & shadows).sum() > 0.7 * shadows.sum()
    assert (found & bag).sum() < 0.1 * bag.sum()


def test_somebody_who_passes_by_is_no_shadow():
    frames, objects, shadows = scene(other=True)
    found = find(frames, objects)
    assert (found & shadows).sum() > 0.7 * shadows.sum()
    assert found.sum() < 3 * shadows.sum()


@pytest.mark.parametrize("pan", [0.0, 1.0])
@pytest.mark.parametrize("noise", [0.0, 8.0])
def test_without_a_shadow_nothing_is_found(pan, noise):
    frames, objects, _ = scene(0.0, pan, noise=noise)
    assert not find(frames, objects).any()


def test_an_object_that_never_moves_has_no_shadow_that_could_be_told(caplog):
    frames, objects, _ = scene(step=0)
    with caplog.at_level("INFO"):
        assert not find(frames, objects).any()
    assert "the object stays in its place" in caplog.text


def held_in_place(texture):
    """(frames, objects): an object that stays where it is over a ground, or before a plain wall."""
    frames, objects, _ = scene(0.0, step=0.0)
    if not texture:
        frames = np.where(objects[..., None], frames, np.uint8(180))
    return list(frames), list(objects)


@pytest.mark.parametrize("texture", [True, False])
def test_the_plate_is_what_a_place_looks_like_while_the_object_is_away_but_for_plain_walls(texture):
    frames, objects = held_in_place(texture)
    outside = [np.zeros((H, W), bool)] * N
    around = surroundings(objects, 25.0)
    plate, _, plain = clean_plate(frames, objects, around, outside)
    close, far = np.s_[60, 42], np.s_[60, 90]  # 6 px from the object, and 54
    assert plain != texture
    assert plate[far].any() and np.abs(plate[far] - frames[0][far]).max() < 5
    assert plate[close].any() != texture
    assert surroundings_known(plate, around, objects, outside) != texture


@pytest.mark.parametrize("share, known", [(0.2, False), (0.3, True)])
def test_nothing_is_judged_where_less_than_a_quarter_of_the_surroundings_has_a_plate(share, known):
    hidden, ring = np.zeros((H, W), bool), np.ones((H, W), bool)
    plate = np.zeros((H, W, 3), np.float32)
    plate[: round(share * H)] = 100
    assert surroundings_known(plate, [ring], [hidden], [hidden]) == known


def test_an_object_that_stays_close_to_its_place_is_left_alone(caplog):
    frames, objects, _ = scene()
    there = [3 + t % 4 for t in range(N)]  # to and fro by half its width
    with caplog.at_level("INFO"):
        assert not find(frames[there], objects[there]).any()
    assert "close to it" in caplog.text


def test_what_is_dark_in_one_place_of_the_picture_is_no_shadow():
    frames, objects, shadows = scene()
    flaw = np.zeros_like(objects)
    flaw[:12, 34:52, 44:70] = True  # beside and above the object as long as it is close
    flaw &= ~objects
    frames[flaw] = (frames[flaw] * 0.8).astype(np.uint8)
    found = find(frames, objects)
    assert (found & shadows).sum() > 0.7 * shadows.sum()
    assert (found & flaw).sum() < 0.2 * flaw.sum()


def test_what_is_brighter_as_often_as_darker_beside_the_object_is_no_shadow():
    frames, objects, shadows = scene()
    stirred = painted_beside(frames, slice(48, 66), 14, lambda t, colours: colours * (0.85, 1.1)[t % 2])
    found = find(frames, objects)
    assert (found & shadows).sum() > 0.7 * shadows.sum()
    assert (found & stirred).sum() < 0.1 * stirred.sum()


def test_a_small_part_of_much_that_is_dark_is_no_shadow():
    frames, objects, _ = scene(0.0)
    rng = np.random.default_rng(3)
    for t, frame in enumerate(frames):
        x = int(20 + 3 * t)
        frame[82:87, x : x + 14] = frame[82:87, x : x + 14] * 0.8  # goes along
        for _ in range(3):  # leaves' shadows, now here, now there
            top, left = rng.integers(20, 90), np.clip(x + rng.integers(-40, 40), 0, W - 30)
            place = np.zeros((H, W), bool)
            place[top : top + 20, left : left + 24] = True
            place &= ~objects[t]
            frame[place] = (frame[place] * 0.8).astype(np.uint8)
    assert not find(frames, objects).any()


def test_white_is_no_darker_in_the_light_of_the_other_frames():
    frames, objects, _ = scene(0.0)
    bright = frames.astype(np.float32)
    bright[:, 20:90, 90:] += 200  # a window, cut off at white
    gains = np.where(np.arange(N) < 12, 1.12, 1.0)  # less light later: the window stays white
    frames = np.clip(bright * gains[:, None, None, None], 0, 255).astype(np.uint8)
    lit, _, _, _ = aligned(Piece(list(frames), [np.zeros((H, W), bool)] * N, [np.eye(3)] * (N - 1)))
    assert np.abs(lit[2][100, :80].astype(int) - lit[25][100, :80]).mean() < 4  # the ground
    assert min(frame[25:36, 95:].min() for frame in lit) >= 250


def test_frames_of_a_fade_tell_nothing_of_shadows():
    frames, objects, _ = scene(0.0)
    faded = np.clip(frames * (1.03 ** -np.arange(N))[:, None, None, None], 0, 255).astype(np.uint8)
    _, _, outside, _ = aligned(Piece(list(faded), list(objects), [np.eye(3)] * (N - 1)))
    assert outside[0].all() and outside[-1].all()
    assert not outside[N // 2].any()


def test_a_change_of_exposure_is_no_shadow():
    frames, objects, _ = scene(0.0)
    gains = 1 + 0.15 * np.sin(np.arange(N) / 3)
    lit = np.clip(frames * gains[:, None, None, None], 0, 255).astype(np.uint8)
    assert not find(lit, objects).any()


def test_nothing_is_carried_over_a_cut():
    frames, objects, _ = scene()
    other, _, _ = scene(0.0)
    both = np.concatenate([frames, 255 - other[:, ::-1]])
    found = find(both, np.concatenate([objects, objects]))
    assert found[:N].any()
    assert not found[N:].any()


def test_the_last_frames_of_a_clip_are_not_left_alone(monkeypatch):
    monkeypatch.setattr(scene_module, "_PIECE", N - 5)
    frames, objects, shadows = scene()
    found = find(frames, objects)
    assert (found[-5:] & shadows[-5:]).sum() > 0.7 * shadows[-5:].sum()


def test_short_clips_and_huge_objects_are_left_alone():
    frames, objects, _ = scene()
    assert not find(frames[:5], objects[:5]).any()
    huge = objects.copy()
    huge[:, :100] = True
    assert not find(frames, huge).any()


def test_the_limit_holds_and_off_finds_nothing():
    frames, objects, shadows = scene()
    assert shadows.mean(axis=(1, 2)).max() > 0.01
    assert find(frames, objects, 0.5).mean(axis=(1, 2)).max() < 0.008  # the limit is kept at a smaller size
    assert find(frames, objects, 0.5).any()
    assert find_effects(ArraySource(frames), MaskTrack.from_array(objects), "off") is None
    assert find_effects(ArraySource(frames), MaskTrack.from_array(objects), 0) is None


@pytest.mark.parametrize("effects", ["on", -1, 101, float("nan"), None])
def test_what_is_no_limit_is_refused(effects):
    with pytest.raises(EngineError, match="The effects are auto, off or 0 to 100 per cent"):
        check_effects(effects)


def test_the_search_can_be_cancelled():
    frames, objects, _ = scene()
    calls = []

    def progress(done, total):
        calls.append((done, total))
        if len(calls) == 7:
            raise Cancelled("enough")

    with pytest.raises(Cancelled):
        find_effects(ArraySource(frames), MaskTrack.from_array(objects), "auto", progress)
    assert calls == [(k, len(frames)) for k in range(7)]


def test_the_spine_takes_the_shadow_away_and_says_so(tmp_path, caplog):
    frames, objects, shadows = scene()
    clean, _, _ = scene(0.0)
    run = {"masks": objects, "engine": "propagation"}
    with caplog.at_level("INFO"):
        result = inpaint_video(frames, output_dir=tmp_path, **run)
    assert any("shadows of the object" in r.getMessage() for r in caplog.records)
    assert result.effects is not None and (result.effects[3] & shadows[3]).any()
    assert (result.holes[3] & shadows[3]).sum() > 0.85 * shadows[3].sum()
    assert not (result.masks[3] & shadows[3]).any()
    report = json.loads((tmp_path / "run.json").read_text())
    assert 0 < report["effects_share"] < AUTO_LIMIT / 100
    assert report["settings"]["effects"] == "auto"
    marked = cv2.imread(str(tmp_path / "frame0_with_mask.png"))[..., ::-1].astype(int)
    place = result.effects[0] & shadows[0]
    assert (marked[place][:, 2] - marked[place][:, 0]).mean() > 30  # blue

    with_, without = (inpaint_video(frames, effects=e, **run).frames.astype(float) for e in ("auto", "off"))
    assert inpaint_video(frames, effects="off", **run).effects is None

    def darkening(result):
        return np.mean([1 - result[t][shadows[t]].mean() / clean[t][shadows[t]].mean() for t in range(N)])

    assert darkening(without) > 0.1
    assert darkening(with_) < darkening(without) / 3


def test_an_event_ends_the_run_while_it_looks():
    frames, objects, _ = scene()
    event = threading.Event()
    event.set()
    with pytest.raises(Cancelled):
        inpaint_video(frames, masks=objects, engine="propagation", cancel=event)
