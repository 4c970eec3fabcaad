#!/usr/bin/env python3
"""Trains VideoPainter's ID adapter, or with --personal an adapter of a thing of your own.

python train/train_adapter.py --data FOLDER --output_dir RUN
accelerate launch train/train_adapter.py ...        on several GPUs
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from videopainter.cli.train_diffusion import main  # noqa: E402

if __name__ == "__main__":
    from videopainter.cli.errors import door

    door(lambda: main(prog="train_adapter.py", kind="adapter"))
