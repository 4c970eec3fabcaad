"""The click network that ships with the package: its file, its shapes, its errors."""

import subprocess
import sys

import numpy as np
import pytest

from videopainter.masks import MaskError
from videopainter.segmentation.clicks.network import EXTENTS, WEIGHTS, WIDEST, Box, ClickNetwork, Point


@pytest.fixture(scope="module", params=["onnxruntime", "opencv"])
def network(request):
    """In onnxruntime, and in OpenCV as where that is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "opencv":
            patch.setitem(sys.modules, "onnxruntime", None)
        yield ClickNetwork()


def frame_with_disc(height=120, width=160, centre=(90, 60), radius=30):
    yy, xx = np.mgrid[0:height, 0:width]
    disc = (xx - centre[0]) ** 2 + (yy - centre[1]) ** 2 < radius**2
    rng = np.random.default_rng(0)
    frame = np.where(disc[..., None], (200, 60, 40), (70, 110, 120)) + rng.normal(0, 6, (height, width, 3))
    return np.clip(frame, 0, 255).astype(np.uint8), disc


def test_masks_of_a_cut_have_its_size_and_the_scores_their_range(network):
    frame, _ = frame_with_disc()
    for box in (Box(0, 0, 160, 120), Box(40, 10, 141, 111), Box(0, 0, 160, 20)):
        masks, scores = network.predict(frame, box, [Point(90, 60)])
        assert masks.shape == (len(EXTENTS), box.bottom - box.top, box.right - box.left)
        assert masks.dtype == np.float32 and masks.min() >= 0 and masks.max() <= 1
        assert scores.shape == (len(EXTENTS),) and scores.min() >= 0 and scores.max() <= 1


def test_a_click_finds_the_disc_and_no_click_finds_something_else(network):
    frame, disc = frame_with_disc()
    masks, _ = network.predict(frame, Box(0, 0, 160, 120), [Point(90, 60)])
    found = masks[1] > 0.5
    assert np.count_nonzero(found & disc) / np.count_nonzero(found | disc) > 0.85


def test_the_same_picture_gives_the_same_masks(network):
    frame, _ = frame_with_disc()
    first, _ = network.predict(frame, Box(0, 0, 160, 120), [Point(90, 60)])
    network.predict(frame, Box(10, 10, 100, 60), [Point(20, 20)])  # another size in between
    second, _ = network.predict(frame, Box(0, 0, 160, 120), [Point(90, 60)])
    np.testing.assert_array_equal(first, second)
    third, _ = ClickNetwork().predict(frame, Box(0, 0, 160, 120), [Point(90, 60)])
    np.testing.assert_array_equal(first, third)


def test_onnxruntime_and_opencv_agree(monkeypatch):
    frame, _ = frame_with_disc()
    box, points = Box(10, 0, 150, 110), [Point(90, 60), Point(20, 20, False)]
    masks, scores = ClickNetwork().predict(frame, box, points)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    others, judged = ClickNetwork().predict(frame, box, points)
    # Sums of several hundred products in another order.
    np.testing.assert_allclose(masks, others, atol=2e-4)
    np.testing.assert_allclose(scores, judged, atol=2e-4)


def test_no_look_makes_a_larger_picture_than_the_one_that_memory_was_taken_for(network):
    asked = []
    forward, network._forward = (
        network._forward,
        lambda *planes: asked.append(planes[0].shape) or forward(*planes),
    )
    try:
        for height, width in ((480, 640), (30, 700), (700, 30), (100, 101), (720, 1280), (40, 357)):
            network.predict(np.zeros((height, width, 3), np.uint8), Box(0, 0, width, height))
    finally:
        network._forward = forward
    assert max(h * w for *_, h, w in asked) <= WIDEST[0] * WIDEST[1]


def test_hints_change_the_masks(network):
    frame, disc = frame_with_disc()
    box = Box(0, 0, 160, 120)
    plain, _ = network.predict(frame, box, [Point(90, 60)])
    denied, _ = network.predict(frame, box, [Point(20, 20), Point(90, 60, False)])
    assert denied[1][disc].mean() < plain[1][disc].mean() - 0.3
    carried, _ = network.predict(frame, box, [], disc.astype(np.float32))
    assert np.count_nonzero((carried[1] > 0.5) & disc) > 0.8 * np.count_nonzero(disc)


def test_a_missing_or_broken_file_is_one_sentence(tmp_path):
    with pytest.raises(MaskError, match="is missing"):
        ClickNetwork(tmp_path / "none.onnx")
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(WEIGHTS.read_bytes()[:5000])
    with pytest.raises(MaskError, match="is not a click network"):
        ClickNetwork(cut)
    text = tmp_path / "text.onnx"
    text.write_text("not a network")
    with pytest.raises(MaskError, match="is not a click network"):
        ClickNetwork(text)


def test_it_runs_without_torch():
    code = (
        "import sys; sys.modules['onnxruntime'] = None; import videopainter.segmentation.clicks.interaction; "
        "from videopainter.segmentation.clicks.network import ClickNetwork; ClickNetwork(); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'onnx')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_file_is_small_and_comes_with_its_card():
    assert WEIGHTS.stat().st_size < 6_000_000
    assert (WEIGHTS.parent / "MODEL_CARD.md").is_file()
