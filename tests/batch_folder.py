"""A folder with a small video, its masks and a table of them, and the batch command on it."""

import csv
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from videopainter.batch import command
from videopainter.video import VideoWriter

ROOT = Path(__file__).resolve().parents[1]
N, H, W = 3, 32, 48


@pytest.fixture
def folder(tmp_path):
    """A video, its masks, and a table with one row of them."""
    frames = np.random.default_rng(0).integers(60, 200, (N, H // 8, W // 8, 3), np.uint8)
    with VideoWriter(tmp_path / "a.mp4", Fraction(10), (H, W)) as writer:
        writer.write(frames.repeat(8, 1).repeat(8, 2))
    masks = np.zeros((N, H, W), np.uint8)
    masks[:, 8:16, 8:24] = 1
    np.savez_compressed(tmp_path / "a.npz", masks)
    table(tmp_path, ["a.mp4", "a.npz"])
    return tmp_path


def table(folder, *rows, header="video,mask", name="a.csv"):
    with open(folder / name, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return folder / name


def run(folder, *more, out="out", name="a.csv"):
    arguments = ["--csv", str(folder / name), "--output_dir", str(folder / out), "--engine", "propagation"]
    return command.main([*arguments, *map(str, more)])


def summary(folder, out="out"):
    with open(folder / out / "summary.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
