#!/usr/bin/env python3
"""Unzips the masks of VPData."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from videopainter.cli.vpdata import unzip_main  # noqa: E402

if __name__ == "__main__":
    from videopainter.cli.errors import door

    door(unzip_main)
