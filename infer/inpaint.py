#!/usr/bin/env python3
"""Inpaints the rows of a CSV: the same as `videopainter batch`, from a checkout.

python infer/inpaint.py --csv clips.csv --output_dir out --engine propagation
accelerate launch --num_processes 4 infer/inpaint.py ...    the rows are split over processes
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from videopainter.batch.command import build_parser, main  # noqa: E402, F401

if __name__ == "__main__":
    from videopainter.cli.errors import door

    door(main)
