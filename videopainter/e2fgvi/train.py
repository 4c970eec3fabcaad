"""The door of E2FGVI's training.

    python -m videopainter.e2fgvi.train --data FOLDER --output_dir training

From Python: `videopainter.e2fgvi.training.run.train`.
"""

if __name__ == "__main__":
    from videopainter.cli.errors import door
    from videopainter.cli.train_e2fgvi import main

    door(main)
