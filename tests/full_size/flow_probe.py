"""Tiny ProPainter and E2FGVI on the fake GPU, in a process of its own: prints what a clip makes the host wait for."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "tests")]

import fake_gpu  # noqa: E402
from fake_gpu import DEVICE  # noqa: E402

fake_gpu.pretend()

import torch  # noqa: E402
from full_size import MovingHole  # noqa: E402


def main() -> None:
    engine, frames = sys.argv[1], int(sys.argv[2])
    gpu = fake_gpu.FakeGPU()
    with gpu.running(), torch.no_grad():
        if engine == "propainter":
            from small_propainter import small_model

            model = small_model().to(DEVICE)
            made = model.paint(MovingHole(frames, (128, 128)))
        else:
            from small_e2fgvi import tiny_config

            from videopainter.e2fgvi import E2FGVIModel
            from videopainter.e2fgvi.streaming import Settings, paint

            model = E2FGVIModel(tiny_config()).to(DEVICE)
            made = paint(model, MovingHole(frames, (120, 216)), Settings())
        with gpu.stage("clip") as counts:
            count = sum(1 for _ in made)
    print(
        json.dumps(
            {"frames": count, "waits": counts.waits, "copies": counts.copies, "kernels": counts.kernels}
        )
    )


if __name__ == "__main__":
    main()
