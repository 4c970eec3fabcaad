#!/usr/bin/env python3
"""Click on something in a video, and it is gone: the same as `videopainter inpaint`, from a checkout."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))  # works from any directory, installed or not

from videopainter.cli.inpaint import build_parser, main, rescale  # noqa: E402, F401

if __name__ == "__main__":
    from videopainter.cli.errors import door

    door(main)
