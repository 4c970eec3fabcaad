#!/usr/bin/env python3
"""VPBench or DAVIS as the paper's table: the same as `videopainter metrics --benchmark ...`, from a checkout.

python infer/evaluate.py --benchmark vpbench --csv data/our_video_inpaint.csv --results out --output_dir figures
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from videopainter.cli.benchmark import main  # noqa: E402

if __name__ == "__main__":
    from videopainter.cli.errors import door

    door(main)
