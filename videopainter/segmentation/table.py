"""The table of segmenters, and which of them is taken."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from videopainter.masks import MaskError
from videopainter.segmentation.base import Segmenter
from videopainter.weights import missing as missing_weights


@dataclass(frozen=True)
class SegmenterSpec:
    """A row of the table: how to get a segmenter, and what it asks for.

    Args:
        location: "module:class" of a `Segmenter`, imported when it is made.
        needs: in a few words.
        packages: modules that it imports, beyond what the base installation has; `install`, how to get them.
        weights: the part of the weights that it reads (a name of `videopainter.weights.PARTS`), if any.
        wants_gpu: runs without one, but too slowly for "auto" to choose it.
    """

    name: str
    location: str
    needs: str
    packages: tuple[str, ...] = ()
    install: str = ""
    weights: str | None = None
    wants_gpu: bool = False

    @property
    def kind(self) -> type[Segmenter]:
        """The class. Raises MaskError if packages are missing."""
        if lacking := self._lacking():
            raise MaskError(f"The segmenter {self.name} needs {' and '.join(lacking)}; {self.install}.")
        module, name = self.location.split(":")
        return getattr(import_module(module), name)

    def missing(self) -> str | None:
        """Why it cannot run on this machine, in a few words; None if it can."""
        if lacking := self._lacking():
            return f"{' and '.join(lacking)} not installed"
        if self.weights and missing_weights(self.weights):
            return "its weights are not there"
        return None

    def _lacking(self) -> list[str]:
        return [package for package in self.packages if find_spec(package) is None]


# The best first: "auto" takes the first that can run.
SEGMENTERS: dict[str, SegmenterSpec] = {
    spec.name: spec
    for spec in (
        SegmenterSpec(
            name="sam2",
            location="videopainter.segmentation.sam2.tracker:Sam2Segmenter",
            needs="a GPU and 900 MB of weights",
            packages=("torch", "transformers"),
            install="the extra [sam2] has them",
            weights="sam2",
            wants_gpu=True,  # measured on two busy cores: 45 s a frame of 640 x 480, against 0.13 s
        ),
        SegmenterSpec(
            name="clicks",
            location="videopainter.segmentation.clicks.segmenter:ClicksSegmenter",
            needs="only a CPU",
        ),
        SegmenterSpec(
            name="classical",
            location="videopainter.segmentation.classical.tracker:ClassicalSegmenter",
            needs="only a CPU",
        ),
    )
}


def choose_segmenter(name: str = "auto") -> tuple[SegmenterSpec, str]:
    """(a row of the table, why it was taken, in a few words). Raises MaskError for an unknown name."""
    if name != "auto":
        if name not in SEGMENTERS:
            raise MaskError(f"There is no segmenter '{name}'; the names are auto, {', '.join(SEGMENTERS)}.")
        return SEGMENTERS[name], "as asked for"
    passed_over = []
    for spec in SEGMENTERS.values():
        reason = spec.missing()
        if reason is None and spec.wants_gpu and not _has_gpu():
            reason = "slow without a GPU, but taken where it is asked for by name"
        if reason is None:
            return spec, "; ".join([f"needs {spec.needs}", *passed_over])
        passed_over.append(f"{spec.name}: {reason}")
    raise MaskError(f"No segmenter can run here: {'; '.join(passed_over)}.")


def _has_gpu() -> bool:
    from videopainter.utils.devices import has_gpu

    return has_gpu()
