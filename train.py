#!/usr/bin/env python3
"""Trains DSTT with memory as published, stage by stage; the same as `python -m videopainter.dstt.train` with defaults.

python train.py --data gta_im=FOLDER --data mit_indoor=FOLDER            makes checkpoints/stage1_final.pt
python train.py --stage 2 --data sun3d=FOLDER --start_from checkpoints/stage1_final.pt
python train.py --stage 3 --data thumos14=FOLDER --start_from checkpoints/stage2_final.pt
"""

import sys

if __name__ == "__main__":
    from videopainter.cli.errors import door
    from videopainter.cli.train_dstt import main

    published = ["--curriculum", "published", "--stage", "1", "--output", "checkpoints"]
    door(lambda: main([*published, *sys.argv[1:]], "train.py"))
