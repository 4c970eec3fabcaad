"""`python -m videopainter.metrics`: the same as `videopainter metrics`."""

from videopainter.cli import errors
from videopainter.cli.metrics import main

if __name__ == "__main__":
    errors.door(main)
