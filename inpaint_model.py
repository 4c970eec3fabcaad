#!/usr/bin/env python3
"""Writes DSTT with memory as DSTT_OM_RT.onnx; the same as `python -m videopainter.dstt.export` with that output.

python inpaint_model.py [--weights FILE.safetensors] [--size 640x360] [--output FILE.ts]
"""

import sys

if __name__ == "__main__":
    from videopainter.cli.errors import door
    from videopainter.cli.export import main

    door(lambda: main(["--output", "DSTT_OM_RT.onnx", *sys.argv[1:]], "inpaint_model.py"))
