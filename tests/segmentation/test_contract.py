"""What every segmenter must do: this suite runs over the table. A new one needs a line in `MAKERS` only if it has
weights that are not part of the project.
"""

import cv2
import numpy as np
import pytest

from videopainter.masks import MaskError, MaskTrack
from videopainter.segmentation import (
    FOUND,
    OUT_OF_SIGHT,
    SEGMENTERS,
    BoxPrompt,
    Candidate,
    ClickPrompt,
    MaskPrompt,
    PolygonPrompt,
    TrackedFrame,
    collect,
)
from videopainter.video import ArraySource

N, H, W = 10, 72, 112
LEFT, RIGHT = (24, 36), (84, 36)  # the middles of the two things in frame 0
RADIUS = 10
SPEED = 1.5  # pixels a frame, to the right


class Counted(ArraySource):
    """Notes which frames are read."""

    def __init__(self, frames):
        super().__init__(frames)
        self.read = set()

    def _frame(self, i):
        self.read.add(i)
        return super()._frame(i)


def disc(x, y, radius=RADIUS):
    yy, xx = np.mgrid[:H, :W]
    return (xx - x) ** 2 + (yy - y) ** 2 <= radius**2


def frames():
    """Two discs, red and blue, that walk to the right before a textured wall."""
    rng = np.random.default_rng(3)
    wall = cv2.resize(rng.normal(0, 25, (H // 5, W // 5, 3)), (W, H), interpolation=cv2.INTER_CUBIC) + 110
    out = np.empty((N, H, W, 3), np.uint8)
    for t in range(N):
        frame = wall.copy()
        for (x, y), colour in ((LEFT, (200, 50, 50)), (RIGHT, (50, 60, 200))):
            frame[disc(x + SPEED * t, y)] = colour
        out[t] = frame.clip(0, 255)
    return out


def a_tiny_sam2(source, tmp_path_factory, made={}):  # noqa: B006  one network for all tests
    pytest.importorskip("transformers")
    from tiny_sam2 import config, original_state, write_checkpoint

    from videopainter.segmentation.sam2 import checkpoint
    from videopainter.segmentation.sam2.tracker import Sam2Segmenter

    if "model" not in made:
        folder = tmp_path_factory.mktemp("sam2")
        path = write_checkpoint(folder / "x.pt", original_state("2.1"))
        checkpoint.convert_file(path, folder / "converted", config("2.1"))
        made["model"] = checkpoint.read(folder / "converted")
    return Sam2Segmenter(source, made["model"])


def a_tiny_edgetam(source, tmp_path_factory, made={}):  # noqa: B006  one network for all tests
    pytest.importorskip("transformers")
    from safetensors.torch import save_file
    from tiny_edgetam import config, state

    from videopainter.segmentation.edgetam import checkpoint
    from videopainter.segmentation.edgetam.tracker import EdgeTamSegmenter

    if "model" not in made:
        path = tmp_path_factory.mktemp("edgetam") / "model.safetensors"
        save_file(state(), path)
        made["model"] = checkpoint.read(path, config())
    return EdgeTamSegmenter(source, made["model"])


MAKERS = {"sam2": a_tiny_sam2, "edgetam": a_tiny_edgetam}
TRAINED = [name for name in SEGMENTERS if name not in MAKERS]  # with weights of its own, or without any


@pytest.fixture(params=SEGMENTERS)
def name(request):
    return request.param


@pytest.fixture
def source():
    return Counted(frames())


@pytest.fixture
def segmenter(name, source, tmp_path_factory):
    if name in MAKERS:
        return MAKERS[name](source, tmp_path_factory)
    return SEGMENTERS[name].kind(source)


def click(place, frame=0, positive=True, number=None):
    return ClickPrompt(place[0] + SPEED * frame, place[1], frame, positive, number)


def iou(a, b):
    return (a & b).sum() / max((a | b).sum(), 1)


def test_preview(segmenter, source):
    found = segmenter.preview(3, [click(LEFT, 3), click(RIGHT, 7)])
    assert found and all(isinstance(one, Candidate) for one in found)
    for one in found:
        assert one.mask.shape == (H, W) and one.mask.dtype == bool
        assert 0 <= one.score <= 1 and one.extent in ("part", "object", "group")
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert source.read <= set(range(8))  # the frame, and what is decoded along with it


def test_preview_reads_no_frame_far_away(name, tmp_path_factory):
    source = Counted(np.concatenate([frames()] * 8))
    one = MAKERS[name](source, tmp_path_factory) if name in MAKERS else SEGMENTERS[name].kind(source)
    one.preview(41, [ClickPrompt(25.5, 36, 41)])
    assert source.read <= set(range(40, 48))


def test_preview_of_clicks_boxes_masks_and_polygons(segmenter):
    whole = disc(*LEFT)
    assert (segmenter.preview(0, [MaskPrompt(whole)])[0].mask == whole).mean() > 0.99
    corner = PolygonPrompt(((10, 20), (40, 20), (40, 50), (10, 50)))
    mask = segmenter.preview(0, [corner])[0].mask
    assert mask[30, 25] and not mask[60, 60] and iou(mask, corner.drawn((H, W)).mask) > 0.95
    stroke = np.zeros((H, W), bool)
    stroke[34:38, 20:28] = True
    added = segmenter.preview(0, [click(LEFT), MaskPrompt(stroke, mode="add")])[0].mask
    assert added[stroke].all()
    erased = segmenter.preview(0, [MaskPrompt(whole), MaskPrompt(stroke, mode="erase")])[0].mask
    assert not erased[stroke].any()
    assert segmenter.preview(0, [BoxPrompt(12, 24, 36, 48)])[0].mask.shape == (H, W)


def test_every_frame_comes(segmenter):
    calls = []
    came = list(segmenter.track([click(LEFT, 4)], lambda *step: calls.append(step)))
    assert {one.frame for one in came} == set(range(N))
    for one in came:
        assert isinstance(one, TrackedFrame) and one.mask.shape == (H, W) and one.mask.dtype == bool
        assert 0 <= one.confidence <= 1
        assert one.state == (FOUND if one.mask.any() else OUT_OF_SIGHT)
    assert {stage for stage, _, _ in calls} == {"select"} and {total for _, _, total in calls} == {N}
    done = [d for _, d, _ in calls]
    assert done == sorted(done) and done[-1] == N


def test_the_same_again(segmenter, name, source, tmp_path_factory):
    prompts = [click(LEFT), click(LEFT, 5)]
    first = collect(segmenter.track(prompts), source).masks[:]
    again = collect(segmenter.track(prompts), source).masks[:]
    np.testing.assert_array_equal(first, again)


def test_objects_are_followed_by_themselves_and_united(segmenter, source):
    one, two = click(LEFT, number=1), click(RIGHT, 2, number=4)
    both = collect(segmenter.track([one, two]), source)
    alone = {n: collect(segmenter.track([p]), source).masks[:] for n, p in ((1, one), (4, two))}
    assert set(both.objects) == {1, 4}
    for number, masks in alone.items():
        np.testing.assert_array_equal(both.objects[number][:], masks)
    np.testing.assert_array_equal(both.masks[:], alone[1] | alone[4])


def test_what_was_right_stays(segmenter, source):
    """A correction on frame 5 changes nothing before the prompt on frame 2 nor from the one on frame 8 on."""
    prompts = [click(LEFT, 2), click(LEFT, 8)]
    known = collect(segmenter.track(prompts), source).objects
    stroke = disc(31, 30, 2)
    more = [*prompts, MaskPrompt(stroke, 5, "erase")]
    came = list(segmenter.track(more, start=5, known=known))
    assert {5, 6, 7} <= {one.frame for one in came} <= set(range(3, 8))
    after = collect(came, source, known).masks
    for i in (0, 1, 2, 8, 9):
        np.testing.assert_array_equal(after[i], known[1][i])
    assert not after[5][stroke].any()


def test_a_correction_of_one_object_leaves_the_others(segmenter, source):
    prompts = [click(LEFT, number=1), click(RIGHT, number=2)]
    known = collect(segmenter.track(prompts), source).objects
    more = [*prompts, MaskPrompt(disc(90, 40), 4, object_id=2)]
    after = collect(segmenter.track(more, start=4, known=known), source, known)
    np.testing.assert_array_equal(after.objects[1][:], known[1][:])
    np.testing.assert_array_equal(after.objects[2][0], known[2][0])
    assert (after.objects[2][4] == disc(90, 40)).mean() > 0.99


def test_a_mask_starts_a_track(segmenter, source):
    whole = disc(*LEFT)
    found = collect(segmenter.track([MaskPrompt(whole)]), source)
    assert (found.masks[0] == whole).mean() > 0.99


def test_closing_early(segmenter):
    walk = segmenter.track([click(LEFT)])
    next(walk)
    walk.close()


def test_a_listener_may_stop_it(segmenter):
    class Cancelled(Exception):
        pass

    def listener(stage, done, total):
        if done >= 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        list(segmenter.track([click(LEFT)], listener))


BAD = {
    "nothing": ([], ["0 prompts"]),
    "only negative": ([click(LEFT, positive=False)], ["1 prompts", "positive"]),
    "an object with nothing positive": (
        [click(LEFT, number=1), click(RIGHT, positive=False, number=2)],
        ["Object 2", "neither"],
    ),
    "outside": ([ClickPrompt(W, 5)], [f"{W},5", f"{W} x {H}"]),
    "not a number": ([ClickPrompt(5, float("nan"))], ["5,nan"]),
    "after the end": ([ClickPrompt(5, 5, N)], [f"frame {N}", f"{N} frames"]),
    "before the beginning": ([ClickPrompt(5, 5, -1)], ["frame -1"]),
    "box outside": ([BoxPrompt(W + 5, 5, W + 20, 9)], ["holds no pixel", f"{W} x {H}"]),
    "box without width": ([BoxPrompt(20, 5, 20, 30)], ["20,5,20,30", "holds no pixel"]),
    "box that ends at the edge": ([BoxPrompt(-20, 5, 0.5, 30)], ["holds no pixel"]),
    "box of no numbers": ([BoxPrompt(float("nan"), 5, 20, 30)], ["holds no pixel"]),
    "polygon of two corners": ([PolygonPrompt(((1, 1), (9, 9)))], ["three corners"]),
    "polygon outside": ([PolygonPrompt(((500, 1), (600, 9), (500, 9)))], ["marks no pixel"]),
    "mask of another size": ([MaskPrompt(np.ones((4, 4), bool))], ["(4, 4)", f"({H}, {W})"]),
    "empty mask": ([MaskPrompt(np.zeros((H, W), bool))], ["marks no pixel"]),
    "mask mode": ([MaskPrompt(np.ones((H, W), bool), mode="maybe")], ["maybe"]),
    "number": ([click(LEFT, number=0)], ["1 to 255", "0"]),
    "something else": (["here"], ["'here'"]),
}


@pytest.mark.parametrize("kind", BAD)
def test_prompts_that_cannot_be_used_are_one_sentence(segmenter, kind):
    prompts, words = BAD[kind]
    with pytest.raises(MaskError) as error:
        list(segmenter.track(prompts))
    for word in words:
        assert word in str(error.value), str(error.value)
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


def test_what_cannot_be_gone_on_from(segmenter, source):
    known = MaskTrack.empty(N, (H, W))
    for more, words in (
        ({"start": 3}, "one of them is missing"),
        ({"known": known}, "one of them is missing"),
        ({"start": 3, "known": known}, "no prompt on frame 3"),
        ({"start": 0, "known": MaskTrack.empty(N - 1, (H, W))}, f"{N - 1} of"),
    ):
        with pytest.raises(MaskError, match=words):
            list(segmenter.track([click(LEFT)], **more))
    with pytest.raises(MaskError, match="no extent 'huge'"):
        segmenter.preview(0, [click(LEFT)], "huge")


# What only trained segmenters, or those without weights, can be expected to find.


@pytest.fixture(params=TRAINED)
def trained(request, source):
    return SEGMENTERS[request.param].kind(source)


def test_two_things_clicked_without_numbers(trained, source):
    found = collect(trained.track([click(LEFT), click(RIGHT)]), source)
    assert len(found.objects) == 2
    for t in (0, N - 1):
        for place in (LEFT, RIGHT):
            true = disc(place[0] + SPEED * t, place[1])
            assert (found.masks[t] & true).sum() > 0.7 * true.sum()
    assert found.masks[N - 1].mean() < 0.2


def walk(places, wall_seed=3, tint=(1, 1, 1), width=176):
    """Frames with a red, dotted disc at each of `places`, x of its middle or None, and its true masks."""
    rng = np.random.default_rng(wall_seed)
    wall = cv2.resize(rng.normal(0, 25, (H // 5, width // 5, 3)), (width, H), interpolation=cv2.INTER_CUBIC)
    wall = ((wall + 110) * tint).clip(0, 255)
    yy, xx = np.mgrid[:H, :width]
    out, masks = [], []
    for x in places:
        x = -99 if x is None else x
        mask = (xx - x) ** 2 + (yy - 36) ** 2 <= 12**2
        frame = wall.copy()
        frame[mask] = (200, 50, 50)
        frame[mask & ((xx - x) % 8 < 3) & (yy % 8 < 3)] = (240, 200, 60)
        out.append(frame.astype(np.uint8))
        masks.append(mask)
    return np.stack(out), np.stack(masks)


def followed(kind, video, prompts):
    source = ArraySource(video)
    return collect(SEGMENTERS[kind].kind(source).track(prompts), source)


@pytest.mark.parametrize("kind", TRAINED)
def test_a_thing_that_jumps(kind):
    video, true = walk([20 + 27 * t for t in range(8)], width=240)
    found = followed(kind, video, [ClickPrompt(20, 36)])
    assert found.lost == [] and min(iou(found.masks[t], true[t]) for t in range(8)) > 0.7


@pytest.mark.parametrize("kind", TRAINED)
def test_gone_and_back_elsewhere(kind):
    video, true = walk([30 + 3 * t for t in range(8)] + [None] * 12 + [150 - 3 * t for t in range(8)])
    found = followed(kind, video, [ClickPrompt(30, 36)])
    assert found.lost == [8] and not found.masks[9:20].any()
    assert min(iou(found.masks[t], true[t]) for t in range(20, 28)) > 0.5


@pytest.mark.parametrize("kind", TRAINED)
def test_behind_a_cut(kind):
    places = [30 + 3 * t for t in range(14)]
    video, true = walk(places)
    between, _ = walk([None] * 5, wall_seed=8, tint=(1.6, 0.5, 0.4))
    video = np.concatenate([video[:7], between, video[7:]])
    found = followed(kind, video, [ClickPrompt(30, 36)])
    assert found.lost == [7] and not found.masks[7:12].any()
    assert min(iou(found.masks[t + 5], true[t]) for t in range(7, 14)) > 0.5


@pytest.mark.parametrize("kind", TRAINED)
def test_absent_at_first(kind):
    video, true = walk([None] * 6 + [40 + 3 * t for t in range(8)])
    source = ArraySource(video)
    came = list(SEGMENTERS[kind].kind(source).track([ClickPrompt(49, 36, 9)]))
    states = {one.frame: one.state for one in came}
    assert [states[t] for t in range(14)] == [OUT_OF_SIGHT] * 6 + [FOUND] * 8
    found = collect(came, source)
    assert found.lost == [0] and min(iou(found.masks[t], true[t]) for t in range(6, 14)) > 0.5


def test_two_clicks_on_one_thing_are_one_object(trained):
    near = ClickPrompt(LEFT[0] + 4, LEFT[1] + 3)
    assert len(trained.things([click(LEFT), near])) == 1
    assert len(trained.things([click(LEFT), click(RIGHT)])) == 2
    assert len(trained.things([click(LEFT), click(LEFT, 5)])) == 1
    own = trained.things([click(LEFT), click(RIGHT), click(RIGHT, 5), click(LEFT, 6, positive=False)])
    assert [[p.frame for p in one] for one in own.values()] == [[0, 6], [0, 5, 6]]


def test_a_correction_is_carried_on(trained, source):
    """The half that was erased on frame 3 stays away, and what was right before stays."""
    known = collect(trained.track([click(LEFT)]), source).objects
    wrong = {1: MaskTrack.build(known[1][i] | (disc(60, 60, 8) if i >= 2 else False) for i in range(N))}
    more = [click(LEFT), MaskPrompt(known[1][4], 4)]
    after = collect(trained.track(more, start=4, known=wrong), source, wrong).masks
    for t in range(N):
        true = disc(LEFT[0] + SPEED * t, LEFT[1])
        assert iou(after[t], true) > 0.6, t
        assert not (after[t] & disc(60, 60, 8)).any() or t in (2, 3)
    assert not (after[3] & disc(60, 60, 8)).any()
