"""The table of segmenters, and which of them is taken."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from videopainter.masks import MaskError
from videopainter.segmentation.base import Segmenter
from videopainter.weights import SAM2_SIZES
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
        sizes: in which it comes, if in several; the class takes one of them, or "auto", as `size`.
    """

    name: str
    location: str
    needs: str
    packages: tuple[str, ...] = ()
    install: str = ""
    weights: str | None = None
    wants_gpu: bool = False
    sizes: tuple[str, ...] = ()

    @property
    def kind(self) -> type[Segmenter]:
        """The class. Raises MaskError if packages are missing."""
        if lacking := self._lacking():
            raise MaskError(f"The segmenter {self.name} needs {' and '.join(lacking)}; {self.install}.")
        module, name = self.location.split(":")
        return getattr(import_module(module), name)

    def open(self, source, size: str = "auto") -> Segmenter:
        """A segmenter over a `VideoSource`. Raises MaskError if packages are missing, or it has no such size."""
        if size != "auto" and size not in self.sizes:
            names = f"the sizes are {', '.join(self.sizes)}" if self.sizes else "it comes in one size only"
            raise MaskError(f"The segmenter {self.name} has no size '{size}'; {names}.")
        return self.kind(source, size=size) if self.sizes else self.kind(source)

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
            needs="a GPU and 160 to 900 MB of weights",
            packages=("torch", "transformers"),
            install="the extra [sam2] has them",
            weights="sam2",
            wants_gpu=True,
            sizes=tuple(SAM2_SIZES),
        ),
        SegmenterSpec(
            name="edgetam",
            location="videopainter.segmentation.edgetam.tracker:EdgeTamSegmenter",
            needs="60 MB of weights; better a GPU",
            packages=("torch", "transformers"),
            install="the extra [sam2] has them",
            weights="edgetam",
            wants_gpu=True,
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


def choose_segmenter(name: str = "auto", size: str = "auto") -> tuple[SegmenterSpec, str]:
    """(a row of the table, why it was taken, in a few words).

    `size`: one of those in which a segmenter comes; where it is named, "auto" takes the segmenter that has it.
    Raises MaskError for an unknown name or size.
    """
    if name == "auto" and size != "auto":
        having = [spec for spec in SEGMENTERS.values() if size in spec.sizes]
        if not having:
            every = ", ".join(size for spec in SEGMENTERS.values() for size in spec.sizes)
            raise MaskError(f"No segmenter has the size '{size}'; the sizes are {every}.")
        return having[0], f"has the size {size}"
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
