"""What a frame costs the segmenters that need weights, on this CPU or on a GPU.

    python benchmarks/segmenter_cost.py [--only sam2-tiny,edgetam,grounding-dino-tiny] [--frames 10] [--device cuda]

The networks have the released shapes and random weights: they cost what the released ones do, and find nothing. Seconds
of one frame of 640 x 480 for one object: of the CPU in one thread, or by the clock with a GPU. SAM 2 and EdgeTAM
remember up to seven frames, and a frame costs more until that memory is full: the last three frames count, which are
full from the eighth on.
GroundingDINO looks at single frames, the last one counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from machine import machine, peak_mb

from videopainter.segmentation import ClickPrompt
from videopainter.segmentation.edgetam.checkpoint import edgetam_config
from videopainter.segmentation.edgetam.tracker import EdgeTamSegmenter
from videopainter.segmentation.sam2.sizes import SIZES, config_of
from videopainter.segmentation.sam2.tracker import Sam2Segmenter
from videopainter.segmentation.words.dino import Dino
from videopainter.video import ArraySource

SIZE = (480, 640)  # height, width
NEWER = ("temporal_positional_encoding_projection_layer.weight", "occlusion_spatial_embedding_parameter")
SWIN = {  # GroundingDINO's backbones: width, blocks, heads, window, size of the pictures they were trained on
    "grounding-dino-tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24), 7, 224),
    "grounding-dino-base": (128, (2, 2, 18, 2), (4, 8, 16, 32), 12, 384),
}


def video(frames: int) -> ArraySource:
    """A disc that walks to the right before noise."""
    rng = np.random.default_rng(0)
    wall = rng.integers(60, 160, (*SIZE, 3), dtype=np.uint8)
    yy, xx = np.mgrid[: SIZE[0], : SIZE[1]]
    pictures = []
    for t in range(frames):
        picture = wall.copy()
        picture[(xx - 200 - 4 * t) ** 2 + (yy - 240) ** 2 < 60**2] = (200, 60, 40)
        pictures.append(picture)
    return ArraySource(np.stack(pictures))


def now(device: str) -> float:
    """Seconds of the CPU, or by the clock when the GPU has done all that was asked of it."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def followed(name: str, frames: int, device: str) -> Iterator[float]:
    """Seconds of each frame in which a clicked object is followed."""
    from transformers import EdgeTamVideoModel, Sam2VideoModel

    source = video(frames)
    if name == "edgetam":
        model = EdgeTamVideoModel(edgetam_config()).eval().to(device)
        segmenter = EdgeTamSegmenter(source, model)
    else:
        model = Sam2VideoModel(config_of(name.removeprefix("sam2-"), NEWER)).eval().to(device)
        segmenter = Sam2Segmenter(source, model)
    start = now(device)
    for _ in segmenter.track([ClickPrompt(200, 240)]):
        yield now(device) - start
        start = now(device)


def looked_at(name: str, frames: int, device: str) -> Iterator[float]:
    """Seconds of each frame in which GroundingDINO looks for one thing."""
    from transformers import GroundingDinoConfig, GroundingDinoForObjectDetection, SwinConfig

    width, blocks, heads, window, side = SWIN[name]
    backbone = SwinConfig(
        embed_dim=width,
        depths=list(blocks),
        num_heads=list(heads),
        window_size=window,
        image_size=side,
        out_indices=[2, 3, 4],
    )
    dino = Dino.__new__(Dino)  # without its folder of weights
    dino.model = (
        GroundingDinoForObjectDetection(GroundingDinoConfig(backbone_config=backbone)).eval().to(device)
    )
    dino.ids, dino.spans = [101, 2417, 2482, 1012, 102], [slice(1, 3)]
    for frame in video(min(frames, 2)):
        start = now(device)
        dino(frame)
        yield now(device) - start


METHODS: dict[str, Callable[[str, int, str], Iterator[float]]] = {
    **{f"sam2-{size}": followed for size in SIZES},
    "edgetam": followed,
    **dict.fromkeys(SWIN, looked_at),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(METHODS), help="names with commas between them")
    parser.add_argument("--frames", type=int, default=10, help="to follow through (default 10)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    device = options.device
    if device == "cpu":
        torch.set_num_threads(1)
        print(f"{machine()}; one thread, peak of the process\n")
    else:
        print(f"{machine()}; peak of what PyTorch allocated on the GPU\n")
    print(f"| | {'CPU ' * (device == 'cpu')}s a frame | first frame | peak MiB |")
    print("|---|---|---|---|")
    for name in options.only.split(","):
        torch.manual_seed(0)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = list(METHODS[name](name, options.frames, device))
        last = seconds[-3:] if METHODS[name] is followed else seconds[-1:]
        peak = peak_mb() if device == "cpu" else torch.cuda.max_memory_allocated() / 2**20
        digits = 1 if device == "cpu" else 3
        print(f"| {name} | {np.mean(last):.{digits}f} | {seconds[0]:.{digits}f} | {peak:.0f} |", flush=True)


if __name__ == "__main__":
    main()
