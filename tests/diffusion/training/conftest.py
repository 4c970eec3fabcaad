"""Two clips on the disk, and trainers of tiny networks."""

from fractions import Fraction

import numpy as np
import pytest

from videopainter.diffusion.training.config import preset
from videopainter.diffusion.training.data import Clips, find_clips
from videopainter.diffusion.training.networks import Networks
from videopainter.diffusion.training.trainer import Trainer
from videopainter.video import VideoWriter


@pytest.fixture(scope="session")
def footage(tmp_path_factory):
    """A folder of two videos, one with masks; both have a text."""
    folder, rng = tmp_path_factory.mktemp("footage"), np.random.default_rng(0)
    for name, text in (("one", "a red car"), ("two", "a dog")):
        ground = rng.integers(40, 220, (8, 12, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
        frames = np.stack([np.roll(ground, 2 * i, axis=1) for i in range(24)])
        with VideoWriter(folder / f"{name}.mp4", Fraction(16), (64, 96)) as file:
            file.write(frames)
        (folder / f"{name}.txt").write_text(text)
    masks = np.zeros((24, 64, 96), bool)
    masks[:, 20:44, 30:60] = True
    np.savez_compressed(folder / "one.npz", masks)
    return folder


@pytest.fixture(scope="session")
def tiny_config():
    def make(kind="branch", **changes):
        small = {"height": 64, "width": 96, "frames": (9,), "steps": 4, "lr_scheduler": "constant", "rank": 4,
                 "lora_alpha": 2.0, "branch_layer_num": 2, "lr_warmup_steps": 0, "learning_rate": 1e-3}  # fmt: skip
        return preset(kind, **{**small, **changes})

    return make


@pytest.fixture
def make_trainer(tiny, footage, tmp_path, tiny_config):
    def make(kind="branch", output=None, networks=None, **changes):
        from diffusers import CogVideoXDPMScheduler

        config = tiny_config(kind, **changes)
        networks = networks or Networks(
            tiny.make("vae"),
            tiny.make("transformer"),
            tiny.make("branch"),
            CogVideoXDPMScheduler.from_config(tiny.config["scheduler"]),
        )
        clips = Clips(find_clips(footage), config, config.batch_size * config.accumulation)
        embeds = {"": tiny.embeds(0)[0], "a red car": tiny.embeds(1)[0], "a dog": tiny.embeds(2)[0]}
        return Trainer(config, networks, clips, embeds.__getitem__, output or tmp_path / "run")

    return make
