"""What the suite of the engines that crop needs to know about each of them."""

from collections.abc import Callable
from dataclasses import dataclass, field

from small_e2fgvi import lively_model
from small_propainter import small_model

from videopainter.e2fgvi.engine import E2FGVIEngine
from videopainter.engines.crop import CropEngine
from videopainter.propainter.engine import ProPainterEngine


@dataclass(frozen=True)
class Network:
    """An engine and its small model.

    paint: the method of the model that yields frames. quick: options without which tests would take long. megabytes,
    available_with: of weights, as the table says, and options that change nothing about that. absent, damaged: what
    is said of weights (regular expressions). box: what is worked on of the picture of
    `test_only_the_region_of_the_holes_is_worked_on`. half: the size for the network, resize_ratio 0.5, of 70 x 90.
    refused: an option of its own and what is said. settings: options for the command line and the Python call.
    """

    name: str
    title: str
    engine: type[CropEngine]
    small: Callable
    paint: str
    megabytes: int
    absent: str
    damaged: str
    box: tuple[slice, slice]
    half: tuple[int, int]
    refused: tuple[tuple[dict, str], ...]
    available_with: dict = field(default_factory=dict)
    quick: dict = field(default_factory=dict)
    settings: dict = field(default_factory=dict)

    def make(self, model, **options) -> CropEngine:
        return self.engine(model=model, device="cpu", **{**self.quick, **options})


NETWORKS = (
    Network(
        name="propainter",
        title="ProPainter",
        engine=ProPainterEngine,
        small=small_model,
        paint="paint",
        megabytes=200,
        absent="there are no weights in .* ckpt/download.py --only propainter",
        damaged="damaged, cut off or not a safetensors file",
        # 128 pixels around the holes.
        box=(slice(0, 203), slice(0, 228)),
        half=(32, 40),  # rounded down to multiples of 8, as the public script does
        refused=(
            ({"neighbor_length": 1}, "neighbor_length must be a whole number of 2 or more, not 1"),
            ({"subvideo_length": -4}, "subvideo_length must be a whole number of 1 or more, not -4"),
        ),
        quick={"raft_iter": 1},
        settings={"raft_iter": 1, "neighbor_length": 4, "ref_stride": 3, "subvideo_length": 3},
    ),
    Network(
        name="e2fgvi",
        title="E2FGVI",
        engine=E2FGVIEngine,
        small=lively_model,
        paint="paint_video",
        megabytes=160,
        absent="there is no E2FGVI-HQ.*Google Drive",
        damaged="damaged, cut off or not a safetensors file",
        # The same at least, and what the network was trained on, where the picture has it.
        box=(slice(0, 203), slice(0, 301)),
        half=(35, 45),
        refused=(
            ({"neighbor_stride": 0}, "neighbor_stride must be a whole number of 1 or more, not 0"),
            ({"num_ref": -4}, "num_ref must be a whole number of -1 or more, not -4"),
        ),
        available_with={"num_ref": 3},
        settings={"num_ref": 2, "neighbor_stride": 2, "ref_stride": 3, "variant": "hq"},
    ),
)
REFUSED = (
    ({"fp16": True}, "fp16.*needs a GPU"),
    ({"mask_dilation": -1}, "mask_dilation must be 0 or more, not -1"),
    ({"resize_ratio": 0}, "resize_ratio must be over 0 and at most 4, not 0"),
    ({"resize_ratio": 4.5}, "resize_ratio must be over 0 and at most 4, not 4.5"),
)
