#!/usr/bin/env python3
"""Inpaints the rows of a CSV: the same as `videopainter batch`, from a checkout, with the published script's flags too.

python infer/inpaint.py --csv clips.csv --output_dir out --engine propagation
python infer/inpaint.py --inpainting_mask_meta clips.csv --inpainting_sample_id 3 --output_path out/3.mp4 ...
accelerate launch --num_processes 4 infer/inpaint.py ...    the rows are split over processes
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from videopainter.cli.published import build_parser, main  # noqa: E402, F401

if __name__ == "__main__":
    from videopainter.cli.errors import door

    door(main)
