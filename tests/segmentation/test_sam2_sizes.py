"""SAM 2 in its sizes and releases: the released tensors convert strictly, and the right network is taken."""

import math

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tiny_sam2 import config, original_state, write_checkpoint  # noqa: E402

from videopainter import weights  # noqa: E402
from videopainter.masks import MaskError  # noqa: E402
from videopainter.segmentation import SEGMENTERS, choose_segmenter  # noqa: E402
from videopainter.segmentation.sam2 import checkpoint, sizes  # noqa: E402
from videopainter.video import ArraySource  # noqa: E402
from videopainter.weights import PARTS, SAM2_SIZES, WeightsError  # noqa: E402

# Numbers of the published networks, in millions.
COUNTS = {"tiny": 38.9, "small": 46.0, "base-plus": 80.8, "large": 224.4}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv(weights.ENVIRONMENT, str(tmp_path))
    return tmp_path


def _state(one):
    return {name: torch.empty(shape) for name, shape in weights.manifest(one.file).items()}


@pytest.mark.parametrize("one", sizes.ALL, ids=str)
def test_the_released_names_and_shapes_convert_strictly(one):
    """Every tensor of the released file finds its place in transformers' network, and no place stays empty."""
    from transformers import Sam2VideoModel

    with torch.device("meta"):
        state = checkpoint.convert_state(_state(one))
        settings = sizes.config_of(one.size, state)
        model = Sam2VideoModel(settings)
    model.load_state_dict(state, strict=True, assign=True)
    count = sum(math.prod(shape) for shape in weights.manifest(one.file).values())
    assert count / 1e6 == pytest.approx(COUNTS[one.size], abs=0.07)
    assert sizes.size_of(settings) == one.size
    assert settings.enable_occlusion_spatial_embedding == (one.release == "2.1")
    assert sizes.recognise(weights.manifest(one.file)) == one


def test_parts_and_files():
    assert {name for names in SAM2_SIZES.values() for name in names} == {one.part for one in sizes.ALL}
    for one in sizes.ALL:
        part = PARTS[one.part]
        assert part.repo == f"facebook/{part.folder}" and str(one).removeprefix("SAM ") in part.what
        (network,) = part.sets[1].networks
        assert (network.path, network.manifest) == (f"{one.file}.pt", one.file)
    assert PARTS["sam2"].folder == "sam2-hiera-large" and not PARTS["sam2"].optional
    assert PARTS["sam2-base-plus"].sets[1].networks[0].path == "sam2.1_hiera_base_plus.pt"


def _put(folder, *parts):
    for part in parts:
        (folder / PARTS[part].sets[1].networks[0].path).write_bytes(b"")


def test_which_is_taken(folder):
    assert sizes.choose("auto", gpu=True) is None
    _put(folder, "sam2.0-small")
    assert str(sizes.choose("auto", gpu=True)) == str(sizes.choose("auto", gpu=False)) == "SAM 2.0 small"
    assert weights.missing("sam2") == []  # any size will do
    _put(folder, "sam2", "sam2-small", "sam2-base-plus")
    assert str(sizes.choose("auto", gpu=True)) == "SAM 2.0 large"
    assert str(sizes.choose("auto", gpu=False)) == str(sizes.choose("small", gpu=True)) == "SAM 2.1 small"
    assert sizes.choose("tiny", gpu=False) is None
    with pytest.raises(
        WeightsError, match="SAM 2 tiny cannot be used: weights are missing.*--only sam2-tiny get"
    ) as e:
        checkpoint.load(size="tiny")
    assert "only those of SAM 2.1 small and SAM 2.0 small and SAM 2.1 base-plus" in str(e.value)


def test_a_file_of_another_size(folder, monkeypatch):
    small, tiny = sizes.Released("small", "2.1"), sizes.Released("tiny", "2.1")
    state = {name: torch.zeros(shape) for name, shape in weights.manifest(small.file).items()}
    monkeypatch.setattr(checkpoint, "load_tensors", lambda path: state)
    _put(folder, "sam2-tiny")
    words = "sam2.1_hiera_tiny.pt' holds SAM 2.1 small, not SAM 2.1 tiny; .* sam2.1_hiera_small.pt"
    with pytest.raises(WeightsError, match=words):
        checkpoint.load(size="tiny")
    del state["no_obj_embed_spatial"]
    with pytest.raises(WeightsError, match="is not sam2.1_hiera_tiny: .*"):
        checkpoint.convert_file(folder / "x.pt", folder / "out", wanted=tiny)
    assert not (folder / "sam2.1-hiera-tiny").exists() and not (folder / "out").exists()


def test_a_folder_of_another_size(folder, monkeypatch):
    path = folder / "sam2.1-hiera-tiny"
    checkpoint.convert_file(write_checkpoint(folder / "x.pt", original_state("2.1")), path, config("2.1"))
    assert checkpoint.load(size="tiny").config.image_size == 128
    monkeypatch.setattr(checkpoint, "size_of", lambda config: "large")
    with pytest.raises(WeightsError, match="sam2.1-hiera-tiny' holds SAM 2 large, not tiny"):
        checkpoint.load(size="tiny")


def test_a_size_names_the_segmenter():
    source = ArraySource(torch.zeros(2, 8, 8, 3, dtype=torch.uint8).numpy())
    assert choose_segmenter("auto", "tiny")[0].name == "sam2"
    assert SEGMENTERS["sam2"].open(source, "tiny")._size == "tiny"
    with pytest.raises(MaskError, match="The segmenter clicks has no size 'tiny'; it comes in one size only"):
        SEGMENTERS["clicks"].open(source, "tiny")
    with pytest.raises(MaskError, match="The segmenter sam2 has no size 'huge'; the sizes are tiny, small"):
        SEGMENTERS["sam2"].open(source, "huge")
    with pytest.raises(MaskError, match="No segmenter has the size 'huge'; the sizes are tiny, small"):
        choose_segmenter("auto", "huge")
