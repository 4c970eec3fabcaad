#!/usr/bin/env python3
"""train_adapter.py under the name of the published script."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from videopainter.cli.train_diffusion import main  # noqa: E402

if __name__ == "__main__":
    from videopainter.cli.errors import door

    door(lambda: main(prog="train_cogvideox_inpainting_i2v_video_resample.py", kind="adapter"))
