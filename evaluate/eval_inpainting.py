#!/usr/bin/env python3
"""The inpainting table under the published script's name and flags: the same as infer/evaluate.py.

cd evaluate; python eval_inpainting.py --dataset VPBench --video_root ../data/videovo/raw_video --caption_path ... \\
    --model_path ../ckpt/CogVideoX-5b-I2V --inpainting_branch ../ckpt/VideoPainter/checkpoints/branch \\
    --save_addr eval_inpainting
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from videopainter.cli.benchmark import main  # noqa: E402

if __name__ == "__main__":
    from videopainter.cli.errors import door

    door(lambda: main(prog="eval_inpainting.py"))
