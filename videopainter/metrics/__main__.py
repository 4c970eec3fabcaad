"""`python -m videopainter.metrics`: the same as `videopainter metrics`."""

import sys

from videopainter.cli.metrics import main

if __name__ == "__main__":
    sys.exit(main())
