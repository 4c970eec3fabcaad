"""The Frechet distance in closed form, and I3D against the published network's recorded features."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from videopainter.metrics.frechet import frechet_distance
from videopainter.metrics.i3d import I3D, same
from videopainter.metrics.vfid import VideoFeatures, load_i3d
from videopainter.weights import WeightsError, manifest

HERE = Path(__file__).parent
pytestmark = pytest.mark.filterwarnings("error")
spec = importlib.util.spec_from_file_location("fill_for_i3d", HERE.parent / "parity" / "data" / "fill.py")
fill = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fill)


def shaped(mean, root, count=400, seed=0):
    """Samples with exactly this mean, and covariance root' root."""
    white = np.random.default_rng(seed).normal(size=(count, len(mean)))
    white -= white.mean(axis=0)
    u, _, vt = np.linalg.svd(white, full_matrices=False)
    return np.asarray(mean) + np.sqrt(count - 1) * (u @ vt) @ np.asarray(root, float)


def test_distance_of_a_set_to_itself_is_nothing():
    samples = np.random.default_rng(0).normal(size=(20, 1024))
    assert frechet_distance(samples, samples) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(samples, samples[::-1]) == pytest.approx(0, abs=1e-9)


def test_distance_in_one_dimension():
    """(m1 - m2)^2 + (s1 - s2)^2."""
    assert frechet_distance(shaped([1.0], [[2.0]]), shaped([4.0], [[0.5]], 300, 1)) == pytest.approx(9 + 2.25)


def test_distance_of_a_shift_is_its_square_though_covariances_are_singular():
    samples = np.random.default_rng(0).normal(size=(10, 200))  # rank 9 of 200
    shift = np.zeros(200)
    shift[:2] = 3, 4
    assert frechet_distance(samples, samples + shift) == pytest.approx(25)


def test_distance_of_covariances_that_commute():
    """Sum over the common axes of (s1 - s2)^2."""
    turn, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(4, 4)))
    one, two = np.array([1.0, 2, 3, 0]), np.array([2.0, 2, 0, 1])
    first, second = shaped(np.zeros(4), np.diag(one) @ turn), shaped(np.zeros(4), np.diag(two) @ turn, 250, 1)
    assert frechet_distance(first, second) == pytest.approx(((one - two) ** 2).sum())


def test_distance_of_covariances_that_do_not_commute():
    """The root of C1 C2 by the eigenvalues of C1^(1/2) C2 C1^(1/2), both of full rank."""
    rng = np.random.default_rng(5)
    first, second = (
        shaped(np.zeros(3), rng.normal(size=(3, 3))),
        shaped(np.ones(3), rng.normal(size=(3, 3)), 90, 2),
    )
    c1, c2 = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    values, vectors = np.linalg.eigh(c1)
    root = (vectors * np.sqrt(values)) @ vectors.T
    inner = np.sqrt(np.linalg.eigvalsh(root @ c2 @ root)).sum()
    assert frechet_distance(first, second) == pytest.approx(3 + np.trace(c1) + np.trace(c2) - 2 * inner)
    assert frechet_distance(second, first) == pytest.approx(frechet_distance(first, second))


def test_distance_refuses_what_is_no_set():
    good = np.zeros((3, 4))
    with pytest.raises(ValueError, match=r"second set needs the shape .* not \(1, 4\)"):
        frechet_distance(good, good[:1])
    with pytest.raises(ValueError, match="4 and 3 dimensions"):
        frechet_distance(good, good[:, :3])
    with pytest.raises(ValueError, match="not a finite number"):
        frechet_distance(np.full((3, 4), np.nan), good)


@pytest.fixture(scope="module")
def state():
    """Random weights with the released names and shapes, as the recorded features were made with."""
    weights = {name: fill.fill_tensor(name, shape, 7) for name, shape in manifest("i3d_rgb").items()}
    return {n: v.abs() + 0.5 if n.endswith("running_var") else v for n, v in weights.items()}


@pytest.fixture(scope="module")
def released(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("i3d") / "i3d_rgb_imagenet.pt"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def clip():
    noise = fill.normal_array("frames", 19 * 40 * 56 * 3).reshape(19, 40, 56, 3)
    return (noise * 40 + 128).clip(0, 255).astype(np.uint8)


def in_pieces(frames, masks=None, count=4):
    masks = np.ones(frames.shape[:3], bool) if masks is None else masks
    return ((frames[i : i + count], masks[i : i + count]) for i in range(0, len(frames), count))


@pytest.mark.parametrize("statistics", ["stored", "clip"])
def test_features_are_the_published_network_s(statistics, released, clip):
    recorded = json.loads((HERE / "i3d_reference.json").read_text())[statistics]
    features, hole = VideoFeatures(load_i3d(released), statistics)(in_pieces(clip), len(clip))
    np.testing.assert_allclose(features[::16], recorded, rtol=0, atol=2e-5)
    np.testing.assert_allclose(hole, features, rtol=0, atol=1e-9)  # the hole is everywhere
    again, _ = VideoFeatures(load_i3d(released), statistics)(in_pieces(clip, count=16), len(clip))
    np.testing.assert_allclose(again, features, rtol=0, atol=1e-5)


def test_a_clip_in_pieces_gives_what_it_gives_whole(state):
    network = I3D().eval()
    network.load_state_dict(state, strict=False)
    generator = torch.Generator().manual_seed(0)
    for length in (1, 8, 21):
        clip = torch.rand((1, 3, length, 33, 40), generator=generator)
        with torch.no_grad():
            whole = network(clip)
            assert whole.shape == (1, 1024, -(-length // 8), 2, 2)
            for count in (1, 3, 8):
                pieces = torch.split(clip, count, dim=2)
                streamed = torch.cat(list(network.stream(pieces, length)), dim=2)
                torch.testing.assert_close(streamed, whole, rtol=0, atol=1e-5)


def test_a_stream_holds_pieces_only(state):
    """Frames are taken as features are asked for: at most the context ahead of the features, never the clip."""
    network = I3D().eval()
    network.load_state_dict(state, strict=False)
    taken = 0

    def pieces():
        nonlocal taken
        for _ in range(20):
            taken += 8
            yield torch.zeros(1, 3, 8, 32, 32)

    with torch.no_grad():
        given = 0
        for features in network.stream(pieces(), 160):
            given += features.shape[2]
            assert taken - 8 * given <= 64
    assert given == 20


def test_padding_is_tensorflow_s():
    assert [same(size, 7, 2) for size in (8, 9, 1)] == [(2, 3), (3, 3), (3, 3)]
    assert [same(size, 3, 1) for size in (1, 4)] == [(1, 1), (1, 1)]
    assert [same(size, 2, 2) for size in (3, 4)] == [(0, 1), (0, 0)]


def test_features_of_the_hole_are_those_of_its_blocks(released, clip):
    """Weighted by the hole's share of each block of 8 x 32 x 32, the last ones cut off by the frame's edge."""
    network = load_i3d(released)
    masks = np.zeros(clip.shape[:3], bool)
    masks[2:5, 10:20, 4:14] = True  # 300 of the 8 * 32 * 32 pixels of block (0, 0, 0)
    masks[18, 32:, 32:] = True  # 192 of the 3 * 8 * 24 pixels of block (2, 1, 1)
    _, hole = VideoFeatures(network)(in_pieces(clip, masks), len(clip))
    with torch.no_grad():
        features = network(torch.from_numpy(clip).permute(3, 0, 1, 2)[None].float() / 255)[0].double().numpy()
    one, two = 300 / 8192, 192 / 576
    expected = (one * features[:, 0, 0, 0] + two * features[:, 2, 1, 1]) / (one + two)
    np.testing.assert_allclose(hole, expected, rtol=0, atol=1e-5)
    assert VideoFeatures(network)(in_pieces(clip, masks * False), len(clip))[1] is None


def test_other_statistics_and_lengths_are_refused(released, clip):
    network = load_i3d(released)
    with pytest.raises(ValueError, match="stored, clip, not 'batch'"):
        VideoFeatures(network, "batch")
    with pytest.raises(ValueError, match="19 frames, not the 20"):
        VideoFeatures(network)(in_pieces(clip), 20)
    with pytest.raises(ValueError, match="more frames than the 16"):
        VideoFeatures(network)(in_pieces(clip), 16)
    with pytest.raises(ValueError, match="1 frames of 32 x 32 is too small"):
        VideoFeatures(network, "clip")(in_pieces(clip[:1, :32, :32]), 1)


@pytest.mark.parametrize("counters", [False, True])
@pytest.mark.parametrize("modern", [False, True])
def test_the_released_layout_is_read_as_any_version_of_torch_writes_it(state, tmp_path, counters, modern):
    extra = {
        n.replace("running_var", "num_batches_tracked"): torch.tensor(1) for n in state if "running_var" in n
    }
    torch.save(state | extra if counters else state, tmp_path / "w.pt", _use_new_zipfile_serialization=modern)
    network = load_i3d(tmp_path / "w.pt")
    assert {n for n in network.state_dict() if not n.endswith("tracked")} == set(manifest("i3d_rgb"))
    for name, value in network.state_dict().items():
        if name in state:
            assert torch.equal(value, state[name])


def test_other_files_are_refused(state, released, tmp_path):
    path = tmp_path / "w.pt"
    with pytest.raises(WeightsError, match="There is no file '.*w.pt'"):
        load_i3d(path)
    whole = released.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"<html>not found</html>"):
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match="w.pt' is (not a file of weights|damaged or cut off)"):
            load_i3d(path)
    name = "Mixed_4b.b1b.conv3d.weight"
    for changed, what in (
        ({n: v for n, v in state.items() if n != name}, f"no tensor '{name}'"),
        (
            state | {name: state[name][:, :1]},
            rf"'{name}' has the shape \[208, 1, 3, 3, 3\], not \[208, 96, 3, 3, 3\]",
        ),
        (state | {"extra": torch.zeros(1)}, "also has 'extra'"),
        ([1, 2], "something else than a network's tensors"),
        ({"layers": state}, "something else than a network's tensors"),
        (state | {name: state[name] * float("nan")}, f"'{name}' holds values that are no numbers"),
    ):
        torch.save(changed, path)
        with pytest.raises(WeightsError, match=what):
            load_i3d(path)


class Payload:
    def __reduce__(self):
        return print, ("unpickled",)


def test_nothing_but_tensors_is_unpickled(tmp_path, capsys):
    torch.save({"logits.conv3d.bias": Payload()}, tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load_i3d(tmp_path / "w.pt")
    assert capsys.readouterr().out == ""
