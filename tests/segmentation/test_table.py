"""Which segmenter is taken, and what is said where one cannot be."""

import pytest

from videopainter import weights
from videopainter.masks import MaskError
from videopainter.segmentation import SEGMENTERS, Segmenter, choose_segmenter, table

SAM2 = SEGMENTERS["sam2"]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine whose weights, packages and GPU the test chooses."""
    monkeypatch.setenv(weights.ENVIRONMENT, str(tmp_path))
    state = {"gpu": False, "packages": True, "weights": False}

    def with_(**more):
        state.update(more)
        (tmp_path / "sam2_hiera_large.pt").unlink(missing_ok=True)
        if state["weights"]:
            (tmp_path / "sam2_hiera_large.pt").write_bytes(b"")
        return choose_segmenter()

    monkeypatch.setattr(table, "_has_gpu", lambda: state["gpu"])
    monkeypatch.setattr(table, "find_spec", lambda name: object() if state["packages"] else None)
    return with_


def test_auto_takes_the_best_that_can_run(machine):
    spec, why = machine()
    assert spec.name == "clicks" and "sam2: its weights are not there" in why
    spec, why = machine(weights=True)
    assert spec.name == "clicks" and "sam2: slow without a GPU" in why
    assert machine(gpu=True)[0].name == "sam2"
    spec, why = machine(packages=False)
    assert spec.name == "clicks" and "torch and transformers not installed" in why


def test_one_is_taken_by_name_wherever_it_runs(machine):
    machine(weights=True)
    assert choose_segmenter("sam2") == (SAM2, "as asked for")
    machine(packages=False)
    with pytest.raises(MaskError, match="sam2 needs torch and transformers; the extra .sam2. has them"):
        choose_segmenter("sam2")[0].kind  # noqa: B018
    with pytest.raises(MaskError, match="'magic'.*auto, sam2, .*classical"):
        choose_segmenter("magic")


@pytest.mark.parametrize("name", SEGMENTERS)
def test_rows_name_their_classes(name):
    for package in SEGMENTERS[name].packages:
        pytest.importorskip(package)
    kind = SEGMENTERS[name].kind
    assert issubclass(kind, Segmenter) and kind.name == name
