#!/usr/bin/env python3
"""Fetches the weights into this folder, and says what is there: the same as `videopainter weights`.

python ckpt/download.py                      everything that can be had without an account
python ckpt/download.py --only base,branch   these parts
python ckpt/download.py --check              what is there, whole, missing, and which engines that allows
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from videopainter.cli.weights import main  # noqa: E402

if __name__ == "__main__":
    from videopainter.cli.errors import door

    door(main)
