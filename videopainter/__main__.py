"""`python -m videopainter`: the same as `videopainter`."""

from videopainter.cli.main import command

if __name__ == "__main__":
    command()
