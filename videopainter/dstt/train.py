"""The door of DSTT's training; the training itself is `training/trainer.py`.

python -m videopainter.dstt.train --curriculum small --data videos=FOLDER --output RUN
python -m videopainter.dstt.train --output RUN --resume
"""

if __name__ == "__main__":
    from videopainter.cli.errors import door
    from videopainter.cli.train_dstt import main

    door(main)
