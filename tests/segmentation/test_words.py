"""Things selected by words: the ways of the boxes and masks, with tiny random networks saved as they are released.

No released weights were at hand: that they find what is named is not shown here.
"""

import json

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_words import write_dino, write_sam3  # noqa: E402

from videopainter import select_object, weights  # noqa: E402
from videopainter.masks import MaskError  # noqa: E402
from videopainter.segmentation import finders  # noqa: E402
from videopainter.segmentation.words import boxes, dino, finder, phrases, sam3  # noqa: E402
from videopainter.segmentation.words.boxes import Found  # noqa: E402
from videopainter.segmentation.words.finder import WordFinder  # noqa: E402
from videopainter.video import ArraySource  # noqa: E402
from videopainter.weights import WeightsError  # noqa: E402

COUNT, H, W = 24, 72, 128


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(weights.ENVIRONMENT, str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def video():
    """A red disc that walks to the right, and a blue one that comes in from the right in frame 10."""
    rng = np.random.default_rng(3)
    wall = cv2.resize(rng.normal(0, 20, (H // 6, W // 6, 3)), (W, H), interpolation=cv2.INTER_CUBIC) + 110
    frames, truth = [], {"red": [], "blue": []}
    yy, xx = np.mgrid[:H, :W]
    for t in range(COUNT):
        frame = wall.copy()
        for name, x, colour in (
            ("red", 20 + t, (210, 40, 40)),
            ("blue", W + 12 - 3 * (t - 9), (40, 60, 210)),
        ):
            mask = (xx - x) ** 2 + (yy - (24 if name == "red" else 50)) ** 2 <= 11**2
            frame[mask] = colour
            truth[name].append(mask)
        frames.append(frame.clip(0, 255).astype(np.uint8))
    return ArraySource(np.stack(frames)), {name: np.stack(masks) for name, masks in truth.items()}


class Eye:
    """Stands in for the network: sees what there is, and notes the frames that it is shown."""

    def __init__(self, video, names=("red", "blue")):
        self.frames, self.truth, self.names, self.seen = video[0][:], video[1], names, []

    def __call__(self, frame):
        t = next(i for i, other in enumerate(self.frames) if (other == frame).all())
        self.seen.append(t)
        found = []
        for k, name in enumerate(self.names):
            y, x = np.nonzero(self.truth[name][t])
            if len(x) > 150:
                found.append(Found((float(x.min()), float(y.min()), float(x.max()), float(y.max())), k, 0.9))
        return found


@pytest.mark.parametrize("segmenter", ["clicks", "classical"])
def test_things_are_followed_and_new_ones_found(video, segmenter):
    source, truth = video
    eye, told = Eye(video), []
    found = WordFinder(source, "red disc, blue disc", 8, segmenter, detector=eye).find(
        lambda *step: told.append(step)
    )
    assert eye.seen == [0, 8, 16]
    assert set(found.objects) == {1, 2}  # the red one is not found anew in frames 8 and 16
    for number, name, frames in ((1, "red", range(COUNT)), (2, "blue", range(15, COUNT))):
        for t in frames:
            mask, true = found.objects[number][t], truth[name][t]
            assert (mask & true).sum() / (mask | true).sum() > 0.5, (name, t)
    np.testing.assert_array_equal(found.masks[:], found.objects[1][:] | found.objects[2][:])
    assert {stage for stage, _, _ in told} == {"select"} and {total for _, _, total in told} == {COUNT}
    done = [d for _, d, _ in told]
    assert done == sorted(done) and done[-1] == COUNT and len(done) > 3 * 10


def test_nothing_is_seen(video):
    eye = Eye(video, names=())
    assert not WordFinder(video[0], "cat", 8, detector=eye).find().masks.any()
    assert eye.seen == [0, 8, 16]


def test_one_thing_found_twice_is_one_object(video):
    """Lost by the segmenter where it is looked for again, it comes back as the object that it was."""
    source, truth = video
    eye = Eye(video, names=("red",))
    one = WordFinder(source, "red disc", 8, "clicks", detector=eye)
    follow, calls = one._followed, []

    def forgetful(segmenter, t, boxes, told):
        tracks = follow(segmenter, t, boxes, told)
        if not calls:
            for i in range(6, COUNT):
                tracks[0].put(i, np.zeros((H, W), bool))
        calls.append(t)
        return tracks

    one._followed = forgetful
    found = one.find()
    assert calls == [0, 8] and set(found.objects) == {1}
    assert all(found.masks[t].any() for t in range(COUNT))


def test_a_listener_may_stop_it(video):
    class Cancelled(Exception):
        pass

    def listener(stage, done, total):
        listener.calls += 1
        if listener.calls > 4:
            raise Cancelled

    listener.calls = 0
    with pytest.raises(Cancelled):
        WordFinder(video[0], "disc", 8, "classical", detector=Eye(video)).find(listener)


def test_phrases():
    assert phrases.phrases("The red  Car, a dog; a dog.\ncat") == ["the red car", "a dog", "cat"]
    for text in ("", " , ;", "..."):
        with pytest.raises(MaskError, match="names nothing to look for"):
            phrases.phrases(text)
    with pytest.raises(MaskError, match="At most 20 things"):
        phrases.phrases(",".join(f"thing {k}" for k in range(21)))


def test_boxes_that_show_a_thing_again():
    box = np.array([[0, 0, 10, 10], [1, 0, 10, 10], [0, 0, 10, 10], [40, 0, 50, 10], [7, 7, 7, 7]], float)
    scores = np.array([[0.8, 0.1], [0.9, 0.1], [0.2, 0.5], [0.34, 0.1], [0.9, 0]])
    kept = boxes.thinned(box, scores)
    assert [(one.box[0], one.phrase) for one in kept] == [(1, 0), (0, 1)]
    assert boxes.box_iou((0, 0, 9, 9), (0, 0, 9, 9)) == 1 and boxes.box_iou((0, 0, 9, 9), (20, 0, 29, 9)) == 0


def test_grounding_dino_says_what_transformers_own_way_says(folder, monkeypatch):
    """The same boxes, scores and words as its processor makes of the same network's answer."""
    from transformers import BertTokenizerFast, GroundingDinoProcessor
    from transformers.models.grounding_dino.image_processing_pil_grounding_dino import (
        GroundingDinoImageProcessorPil,
    )

    write_dino(folder / "grounding-dino-tiny")
    monkeypatch.setattr(boxes, "SURE", 0.0)
    monkeypatch.setattr(boxes, "SAME", 1.0)
    monkeypatch.setattr(dino, "SHORT", 64)
    monkeypatch.setattr(dino, "LONG", 90)
    noise = np.random.default_rng(0).integers(0, 255, (12, 20, 3), np.uint8)
    frame = cv2.resize(noise, (120, 72), interpolation=cv2.INTER_CUBIC)
    seer = dino.Dino(folder / "grounding-dino-tiny", ["the red car", "a dog"], device="cpu")
    found = seer(frame)
    assert found

    tokenizer = BertTokenizerFast(tokenizer_file=str(folder / "grounding-dino-tiny/tokenizer.json"))
    images = GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 90})
    processor = GroundingDinoProcessor(images, tokenizer)
    asked = processor(images=frame, text=[["the red car", "a dog"]], return_tensors="pt")
    assert asked["input_ids"][0].tolist() == seer.ids
    with torch.inference_mode():
        answer = seer.model(**asked)
    theirs = processor.post_process_grounded_object_detection(
        answer, threshold=0.0, text_threshold=0.0, target_sizes=[(72, 120)]
    )[0]
    corners = np.clip(theirs["boxes"].numpy() - [0, 0, 1, 1], 0, [119, 71, 119, 71])
    chance = answer.logits[0].sigmoid().numpy()
    for one in found:  # the pictures are made smaller in slightly different ways
        k = np.abs(corners - one.box).max(1).argmin()
        np.testing.assert_allclose(one.box, corners[k], atol=4)
        assert one.score == pytest.approx(chance[k, seer.spans[one.phrase]].max(), abs=0.05)
        assert ["the red car", "a dog"][one.phrase] in theirs["text_labels"][k]


def test_select_words_with_grounding_dino(folder, video, monkeypatch):
    write_dino(folder / "grounding-dino-tiny")
    seen = Eye(video)
    monkeypatch.setattr(dino.Dino, "__call__", lambda one, frame: one.spans and seen(frame))
    found = select_object(video[0], select="red disc, blue disc", select_every=12, segmenter="clicks")
    assert seen.seen == [0, 12] and 1 <= len(found.objects) <= 2 and found.masks.any()
    cut = select_object(video[0], select="red disc", select_area=(0, 0, W, 30), segmenter="clicks")
    assert cut.masks.any() and not cut.masks[:][:, 32:].any()


def test_select_words_with_sam3(folder, video, monkeypatch):
    write_sam3(folder / "sam3")
    monkeypatch.setattr(sam3.Sam3, "__init__", _eager(sam3.Sam3.__init__))
    kept = []
    prune = sam3._prune
    monkeypatch.setattr(sam3, "_prune", lambda s, t: (prune(s, t), kept.append(_stored(s))))
    found = select_object(video[0], select="the red disc, a dog")
    assert found.objects and all(track.any() for track in found.objects.values())
    assert len(found.masks) == COUNT and found.masks[0].shape == (H, W)
    assert max(kept) == kept[sam3.REACH + 1]  # what is kept does not grow


def _eager(init):
    """A network that has not been trained is sure of nothing: whatever it finds in the first frame counts."""

    def changed(one, *arguments, **more):
        init(one, *arguments, **more)
        one.model.score_threshold_detection = one.model.new_det_thresh = 0.0
        one.model.max_num_objects = 4

    return changed


def _stored(session):
    return sum(len(o["non_cond_frame_outputs"]) for o in session.output_dict_per_obj.values())


def test_which_network_is_taken(folder, monkeypatch):
    from videopainter.utils import devices

    monkeypatch.setattr(devices, "has_gpu", lambda: False)
    with pytest.raises(
        WeightsError, match="Words cannot be looked for: weights are missing.*dino-tiny gets them"
    ):
        finder.choose_network()
    for part in ("sam3", "grounding-dino-base"):
        for name in weights.PARTS[part].sets[0].files + (f"{part}/model.safetensors",):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("{}")
    assert finder.choose_network() == "grounding-dino-base" and finders.FINDERS["words"].missing() is None
    monkeypatch.setattr(devices, "has_gpu", lambda: True)
    assert finder.choose_network() == "sam3"


def test_what_is_missing_is_one_sentence(folder, video, monkeypatch):
    words = (
        "'subtitles' is none of captions, still captions, moving captions, faces, and other words need "
        "GroundingDINO or SAM 3: weights are missing in .*--only grounding-dino-tiny gets them"
    )
    with pytest.raises(WeightsError, match=words):
        select_object(video[0], select="subtitles")
    assert finders.FINDERS["words"].missing() == "its weights are not there"
    with pytest.raises(MaskError, match="every 1 frame or more, not 0"):
        select_object(video[0], select="subtitles", select_every=0)
    monkeypatch.setattr(finders, "find_spec", lambda name: None)
    with pytest.raises(
        WeightsError, match=r"other words need torch and transformers; the extra \[sam2\] has them"
    ):
        select_object(video[0], select="the red car")


@pytest.mark.parametrize("kind", ["dino", "sam3"])
def test_weights_that_cannot_be_used_are_one_sentence(folder, video, kind):
    from safetensors.torch import load_file, save_file

    part, what = {"dino": ("grounding-dino-tiny", "GroundingDINO"), "sam3": ("sam3", "SAM 3")}[kind]
    {"dino": write_dino, "sam3": write_sam3}[kind](folder / part)
    assert weights.missing("words") == [] and weights.problems(part) == []
    file, tokenizer = folder / part / "model.safetensors", folder / part / "tokenizer.json"
    whole, said = file.read_bytes(), tokenizer.read_text()
    state = load_file(file)
    name = next(n for n in state if "text" in n and n.endswith("weight"))
    save_file({k: v for k, v in state.items() if k != name}, file, {"format": "pt"})
    with pytest.raises(WeightsError, match=f"{what} in .* has no tensor"):
        select_object(video[0], select="dog")
    save_file({**state, name: state[name] / 0}, file, {"format": "pt"})
    with pytest.raises(WeightsError, match="holds values that are no numbers"):
        select_object(video[0], select="dog")
    file.write_bytes(whole[:-7])
    with pytest.raises(WeightsError, match="is damaged, cut off"):
        select_object(video[0], select="dog")
    file.write_bytes(whole)
    for text in (said[:-9], "{}", json.dumps([1])):
        tokenizer.write_text(text)
        with pytest.raises(WeightsError, match="is no tokenizer"):
            select_object(video[0], select="dog")


def test_more_words_than_it_takes(folder, video):
    write_dino(folder / "grounding-dino-tiny")
    with pytest.raises(MaskError, match="These words are .* pieces, but GroundingDINO takes 32 at most"):
        select_object(video[0], select=", ".join(f"{'red ' * k}car" for k in range(9)))
