#!/usr/bin/env python3
"""Changes a thing in a row of a CSV: inpaint.py with --video_editing_instruction, from a checkout.

python infer/edit.py --inpainting_mask_meta clips.csv --inpainting_sample_id 79 --output_path out/79.mp4 \\
    --video_editing_instruction "Change the lamp into a small tree." ...
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from videopainter.cli.published import main  # noqa: E402

if __name__ == "__main__":
    from videopainter.cli.errors import door

    door(lambda: main(prog="edit.py"))
