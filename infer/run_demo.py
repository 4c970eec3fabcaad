#!/usr/bin/env python3
"""The guide's `cd infer; python run_demo.py ...`: the same as run_demo.py one folder up."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from videopainter.cli.inpaint import main  # noqa: E402

if __name__ == "__main__":
    from videopainter.cli.errors import door

    door(main)
