"""Training: it learns eight frames by heart, goes on where it was stopped, and says what it cannot use."""

import dataclasses
import math
import signal

import cv2
import numpy as np
import pytest
import torch
from clips import random_clip
from small_e2fgvi import tiny_config

from videopainter.cli import train_e2fgvi as command
from videopainter.e2fgvi.model import E2FGVIModel
from videopainter.e2fgvi.training import losses
from videopainter.e2fgvi.training import run as training
from videopainter.e2fgvi.training.data import ClipFolder, random_masks
from videopainter.e2fgvi.training.discriminator import Discriminator
from videopainter.e2fgvi.training.trainer import Trainer, TrainingOptions, as_batch
from videopainter.video import VideoError, VideoWriter
from videopainter.weights import WeightsError

SIZE = (24, 36)  # (height, width): one attention window
SMALL = {"window": (2, 3), "num_layers": 1, "flow_widths": (4, 4, 4, 4)}
OPTIONS = TrainingOptions(width=4, lr=1.5e-3)


def fresh_model() -> E2FGVIModel:
    """So narrow a network learns fast only where every layer begins by passing on what it gets."""
    torch.manual_seed(3)
    model = E2FGVIModel(tiny_config(**SMALL))
    for module in model.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            torch.nn.init.kaiming_normal_(module.weight, a=0.2)
    for align in model.feat_prop_module.deform_align.values():
        torch.nn.init.zeros_(align.conv_offset[-1].weight)
    for level in model.update_spynet.basic_module:
        torch.nn.init.normal_(level.basic_module[-1].conv.weight, std=0.01)
    torch.nn.init.normal_(model.decoder[-1].weight, std=0.02)
    return model


def smooth_frames(count=8, size=SIZE):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (5, 8, 3), np.uint8)
    wide = cv2.resize(coarse, (size[1] + 2 * count, size[0]), interpolation=cv2.INTER_CUBIC)
    return np.stack([wide[:, 2 * i : 2 * i + size[1]] for i in range(count)])


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A folder with one video of eight small frames."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "one").mkdir()
    for i, frame in enumerate(smooth_frames()):
        cv2.imwrite(str(folder / "one" / f"{i:05}.png"), np.ascontiguousarray(frame[..., ::-1]))
    return folder


@pytest.fixture(scope="module")
def beginning(tmp_path_factory):
    """A small model to begin with, saved."""
    folder = tmp_path_factory.mktemp("beginning")
    fresh_model().save_pretrained(folder)
    return folder


def run(videos, out, beginning, steps, **more):
    more = {"options": OPTIONS, "save_every": 100, **more}
    return training.train(videos, out, weights=beginning, steps=steps, size=SIZE, device="cpu", **more)


def same(one, other) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return set(a) == set(b) and all(torch.equal(value, b[name]) for name, value in a.items())


# -- learning --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_learns_eight_small_frames(videos, beginning, tmp_path):
    told = run(videos, tmp_path, beginning, steps=160)
    assert len(told) == 160 and set(told[0]) == {"hole", "valid", "flow", "adversarial", "discriminator"}

    def mean(steps):
        return np.mean([step["hole"] + step["valid"] for step in steps])

    assert mean(told[-10:]) < 0.5 * mean(told[:10])
    # What it paints now is nearer to the truth than what it painted before, and than grey.
    frames, masks = as_batch([(smooth_frames(), random_masks(np.random.default_rng(5), range(8), SIZE))])
    errors = []
    for model in (fresh_model(), E2FGVIModel.from_pretrained(tmp_path / "model")):
        with torch.inference_mode():
            painted, _, _ = model((frames * (1 - masks))[0], 5)
        errors.append((painted - frames[0]).abs()[masks[0].expand_as(painted) > 0].mean().item())
    assert errors[1] < 0.5 * errors[0]
    assert errors[1] < 0.5 * frames[masks.expand_as(frames) > 0].abs().mean().item()


@pytest.mark.parametrize("weight", [0.01, 0.0], ids=["discriminator", "none"])
def test_going_on_is_as_never_having_stopped(videos, beginning, tmp_path, weight):
    options = dataclasses.replace(OPTIONS, adversarial_weight=weight, lr_drop=5)
    whole = run(videos, tmp_path / "whole", beginning, 6, options=options, batch_size=2)
    first = run(videos, tmp_path / "parts", beginning, 4, options=options, batch_size=2)
    second = run(videos, tmp_path / "parts", beginning, 6, options=options, batch_size=2)
    assert (len(first), len(second)) == (4, 2) and first + second == whole
    models = [E2FGVIModel.from_pretrained(tmp_path / name / "model") for name in ("whole", "parts")]
    assert same(*models)
    assert run(videos, tmp_path / "parts", beginning, 6, options=options, batch_size=2) == []
    files = sorted(str(p.relative_to(tmp_path)) for p in (tmp_path / "whole").rglob("*"))
    assert files == [
        "whole/checkpoint.pt",
        "whole/model",
        "whole/model/README.md",
        "whole/model/config.json",
        "whole/model/model.safetensors",
    ]


def test_the_learning_rate_drops(videos):
    trainer = Trainer(fresh_model(), dataclasses.replace(OPTIONS, lr_drop=1))
    frames, masks = as_batch([(smooth_frames(), random_masks(np.random.default_rng(5), range(8), SIZE))])
    rates = []
    for _ in range(2):
        trainer.step(frames, masks)
        rates.append(trainer.optimizer.param_groups[0]["lr"])
    assert rates == [pytest.approx(1.5e-3), pytest.approx(1.5e-4)]


def test_the_discriminator_has_its_own_steps():
    trainer = Trainer(fresh_model(), OPTIONS)
    frames, masks = as_batch([(smooth_frames(), random_masks(np.random.default_rng(5), range(8), SIZE))])
    before = {name: p.clone() for name, p in trainer.discriminator.named_parameters()}
    teacher = {name: p.clone() for name, p in trainer.teacher.state_dict().items()}
    told = trainer.step(frames, masks)
    assert all(math.isfinite(value) for value in told.values()) and told["discriminator"] > 0
    # The last bias is pushed both ways alike, as long as no answer is certain.
    still = [name for name, p in trainer.discriminator.named_parameters() if torch.equal(p, before[name])]
    assert set(still) <= {"conv.10.bias"}
    assert all(torch.equal(p, teacher[name]) for name, p in trainer.teacher.state_dict().items())
    noise = torch.rand_like(frames) * 2 - 1
    answers = trainer.discriminator(frames), trainer.discriminator(noise)
    for _ in range(30):  # it can tell one from the other
        trainer._update(trainer.discriminator_optimizer, losses.hinge_of_discriminator(*answers))
        answers = trainer.discriminator(frames), trainer.discriminator(noise)
    assert answers[0].mean() > 0.5 and answers[1].mean() < -0.5


def test_what_is_under_the_mask_does_not_reach_the_generator():
    """The flow loss and the reconstruction know the truth, what is painted does not."""
    frames, masks = as_batch([(smooth_frames(), random_masks(np.random.default_rng(5), range(8), SIZE))])
    model = fresh_model()
    other = torch.where(masks > 0, -frames, frames)
    with torch.inference_mode():
        one, two = (model(((f * (1 - masks))[0]), 5)[0] for f in (frames, other))
    assert torch.equal(one, two)


def test_losses_that_are_no_numbers_stop_it():
    trainer = Trainer(fresh_model(), OPTIONS)
    frames, masks = as_batch([(smooth_frames(), random_masks(np.random.default_rng(5), range(8), SIZE))])
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    with pytest.raises(FloatingPointError, match="hole loss is nan at step 1"):
        trainer.step(frames * float("nan"), masks)
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


# -- losses and the discriminator ------------------------------------------------------------------------


def test_reconstruction_is_the_mean_of_each_part():
    frames = torch.zeros(1, 2, 3, 4, 5)
    masks = torch.zeros(1, 2, 1, 4, 5)
    masks[..., :2, :] = 1
    painted = torch.where(masks > 0, 0.5, -0.25).expand_as(frames)
    hole, valid = losses.reconstruction(painted, frames, masks)
    assert (hole.item(), valid.item()) == (pytest.approx(0.5), pytest.approx(0.25))
    hole, valid = losses.reconstruction(painted, frames, torch.zeros_like(masks))
    assert hole == 0 and math.isfinite(valid)


def test_flow_and_hinge_by_hand():
    flow, true = torch.ones(2, 2, 3, 3), torch.zeros(2, 2, 3, 3)
    assert losses.flow_consistency((flow, 2 * flow), (true, true)) == 3
    real, painted = torch.tensor([2.0, 0.0]), torch.tensor([-2.0, 0.5])
    assert losses.hinge_of_discriminator(real, painted) == (0.5 + 0.75) / 2
    assert losses.hinge_of_generator(painted) == 0.75


def test_the_published_discriminator():
    network = Discriminator()
    shapes = [tuple(layer.weight.shape) for layer in network.conv if hasattr(layer, "weight")]
    assert shapes == [
        (32, 3, 3, 5, 5), (64, 32, 3, 5, 5), (128, 64, 3, 5, 5), *[(128, 128, 3, 5, 5)] * 3
    ]  # fmt: skip
    assert [layer.bias is not None for layer in network.conv[::2]] == [False] * 5 + [True]
    assert Discriminator(2)(torch.zeros(1, 8, 3, 60, 108)).shape == (1, 8, 8, 1, 2)
    small = Discriminator(4).train()
    for _ in range(20):
        small(torch.rand(1, 3, 3, 24, 36))
    for layer in small.conv[:-1:2]:  # spectral norm: no direction is stretched
        assert torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2).item() == pytest.approx(
            1, abs=0.15
        )


@pytest.mark.parametrize(
    "options, words",
    [
        ({"local_frames": 1}, "local_frames must be 2 or more, not 1"),
        ({"lr": 0}, "learning rate must be over 0, not 0"),
        ({"flow_weight": -1}, "flow_weight must be 0 or more, not -1"),
        ({"hole_weight": float("nan")}, "hole_weight must be 0 or more, not nan"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_options_that_cannot_be(options, words):
    with pytest.raises(ValueError, match=words):
        TrainingOptions(**options)


# -- clips and masks -------------------------------------------------------------------------------------


def test_random_masks():
    rng = np.random.default_rng(1)
    moving, shares = 0, []
    for _ in range(60):
        masks = random_masks(rng, [0, 1, 2, 40], (48, 72))
        assert masks.shape == (4, 48, 72) and masks.dtype == bool and masks.any((1, 2)).all()
        assert len({int(mask.sum()) for mask in masks}) == 1  # the same shape
        moving += (masks[0] != masks[3]).any()
        shares.append(masks[0].mean())
        steps = [np.argwhere(mask).mean(0) for mask in masks[:3]]
        assert np.abs(np.diff(steps, axis=0)).max() <= 4
    assert 15 < moving < 45 and 0.02 < np.mean(shares) < 0.6 and max(shares) < 0.95
    again = random_masks(np.random.default_rng(1), [0, 1, 2, 40], (48, 72))
    assert np.array_equal(again, random_masks(np.random.default_rng(1), [0, 1, 2, 40], (48, 72)))


def test_clips_of_videos_and_folders(videos, tmp_path):
    frames, _ = random_clip(12, 40, 60)
    with VideoWriter(tmp_path / "two.mp4", 25, (40, 60)) as writer:
        for frame in frames:
            writer.write(frame)
    (tmp_path / "deep" / "480p" / "one").mkdir(parents=True)
    for image in (videos / "one").iterdir():
        (tmp_path / "deep" / "480p" / "one" / image.name).write_bytes(image.read_bytes())
    (tmp_path / "notes.txt").write_text("no video")
    cv2.imwrite(str(tmp_path / "poster.png"), frames[0])  # a folder may hold both
    (tmp_path / "broken.mp4").write_text("no video")
    clips = ClipFolder(tmp_path, 4, 2, SIZE)
    assert [path.name for path in clips.videos] == ["two.mp4", "one"]
    truth = smooth_frames()
    seen = set()
    for seed in range(12):
        found, masks = clips.sample(np.random.default_rng(seed))
        assert found.shape == (6, *SIZE, 3) and masks.shape == (6, *SIZE)
        again, _ = clips.sample(np.random.default_rng(seed))
        assert np.array_equal(found, again)
        for candidates, flipped in ((truth, False), (truth[:, :, ::-1], True)):
            numbers = [
                next((i for i, t in enumerate(candidates) if np.array_equal(t, frame)), None)
                for frame in found
            ]
            if None not in numbers:
                local, others = numbers[:4], numbers[4:]
                assert local == list(range(local[0], local[0] + 4))
                assert others == sorted(set(others) - set(local)) and len(others) == 2
                seen.add(flipped)
    assert seen == {False, True}


def test_folders_that_hold_nothing_to_train_on(videos, tmp_path, caplog):
    with pytest.raises(VideoError, match="There is no folder '.*gone' with videos"):
        ClipFolder(tmp_path / "gone")
    with pytest.raises(VideoError, match="no video of 8 frames or more in '.*'\\.$"):
        ClipFolder(tmp_path)
    with pytest.raises(VideoError, match="no video of 9 frames or more in '.*'; 1 are shorter"):
        ClipFolder(videos, 5, 4)


# -- the command line, and files -------------------------------------------------------------------------


def arguments(videos, beginning, out, *more):
    words = ["--data", videos, "--weights", beginning, "--output_dir", out, "--size", "36x24", "--steps", 2]
    words += ["--discriminator_width", 4, "--device", "cpu", *more]
    return [str(word) for word in words]


def test_the_command_line(videos, beginning, tmp_path, capsys):
    out = tmp_path / "out"
    assert command.main(arguments(videos, beginning, out)) == 0
    told = capsys.readouterr()
    assert "Written to" in told.out and "2/2" in told.err
    assert E2FGVIModel.from_pretrained(out / "model").config.window == (2, 3)


@pytest.mark.parametrize(
    "more, words",
    [
        (["--lr", 0], "learning rate must be over 0, not 0"),
        (["--steps", 0], "steps must be 1 or more, not 0"),
        (["--batch_size", 0], "batch_size must be 1 or more, not 0"),
        (["--size", "37x24"], "such as 72x24, not 37x24"),
        (["--data", "gone"], "There is no folder 'gone'"),
        (["--weights", "gone"], "There is no E2FGVI-HQ-CVPR22.pth .*'gone'"),
        (["--local_frames", 7], "no video of 10 frames or more"),
        (["--flow_teacher", "gone"], "'gone' is not a flow network"),
    ],
    ids=["rate", "steps", "batch", "size", "data", "weights", "length", "teacher"],
)
def test_the_command_line_ends_with_one_sentence(
    videos, beginning, tmp_path, capsys, monkeypatch, more, words
):
    import re

    monkeypatch.chdir(tmp_path)
    assert command.main(arguments(videos, beginning, tmp_path / "out", *more)) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("train: error: ") and "\n" not in error and re.search(words, error), error
    assert not (tmp_path / "out").exists()


def test_a_flow_network_of_its_own_as_teacher(videos, beginning, tmp_path):
    state = {n: torch.full_like(v, 0.01) for n, v in fresh_model().update_spynet.state_dict().items()}
    published = {name: value for name, value in state.items() if name.startswith("basic_module")}
    torch.save({"state_dict": published}, tmp_path / "spynet.pth")
    told = run(videos, tmp_path / "a", beginning, 1, flow_teacher=tmp_path / "spynet.pth")
    assert told[0]["flow"] != run(videos, tmp_path / "b", beginning, 1)[0]["flow"]
    torch.save({"x": torch.zeros(1)}, tmp_path / "spynet.pth")
    with pytest.raises(WeightsError, match="is not a flow network"):
        run(videos, tmp_path / "c", beginning, 1, flow_teacher=tmp_path / "spynet.pth")


def test_checkpoints_that_do_not_fit(videos, beginning, tmp_path):
    run(videos, tmp_path, beginning, 1)
    with pytest.raises(WeightsError, match="was made with lr 0.0015, which cannot become 0.001"):
        run(videos, tmp_path, beginning, 2, options=dataclasses.replace(OPTIONS, lr=1e-3))
    with pytest.raises(WeightsError, match="was made with seed 42, not 7"):
        run(videos, tmp_path, beginning, 2, seed=7)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(WeightsError, match="checkpoint.pt' is damaged or cut off"):
        run(videos, tmp_path, beginning, 2)


def test_a_checkpoint_is_whole_or_not_there(videos, beginning, tmp_path, monkeypatch):
    run(videos, tmp_path, beginning, 1)
    kept = (tmp_path / "checkpoint.pt").read_bytes()
    original = torch.save

    def full_disk(state, file):
        original({"half": torch.zeros(1)}, file)
        raise OSError("the disk is full")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="disk is full"):
        run(videos, tmp_path, beginning, 2)
    assert (tmp_path / "checkpoint.pt").read_bytes() == kept
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt", "model"]
    monkeypatch.undo()
    assert len(run(videos, tmp_path, beginning, 2)) == 1


# -- stopping by hand ------------------------------------------------------------------------------------


def interrupted(monkeypatch, at, act):
    """``act()`` is called in the middle of step number ``at``."""
    original = Trainer.step

    def step(self, frames, masks):
        if self.step_number + 1 == at:
            act()
        return original(self, frames, masks)

    monkeypatch.setattr(Trainer, "step", step)


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"])
def test_ctrl_c_saves_the_step_that_it_is_at(videos, beginning, tmp_path, monkeypatch, capfd, number, status):
    command_line = arguments(videos, beginning, tmp_path / "out", "--steps", 4)
    interrupted(monkeypatch, 2, lambda: signal.raise_signal(number))
    assert command.main(command_line) == status
    told = capfd.readouterr().err
    assert "Stops after this step" in told
    assert told.endswith("\nStopped after step 2, which is saved; the same command goes on from there.\n")
    assert torch.load(tmp_path / "out/checkpoint.pt", weights_only=True)["step"] == 2
    monkeypatch.undo()
    assert command.main(command_line) == 0
    assert command.main(arguments(videos, beginning, tmp_path / "whole", "--steps", 4)) == 0
    assert same(*(E2FGVIModel.from_pretrained(tmp_path / name / "model") for name in ("out", "whole")))


def test_ctrl_c_in_the_last_step_changes_nothing(videos, beginning, tmp_path, monkeypatch, capfd):
    interrupted(monkeypatch, 2, lambda: signal.raise_signal(signal.SIGINT))
    assert command.main(arguments(videos, beginning, tmp_path / "out")) == 0
    assert "Written to" in capfd.readouterr().out


def twice():
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGINT)


def at_once():
    raise KeyboardInterrupt


@pytest.mark.parametrize("act", [twice, at_once])
def test_stopping_at_once_leaves_the_last_checkpoint(videos, beginning, tmp_path, monkeypatch, capfd, act):
    """In the middle of a step there is nothing that could be saved."""
    interrupted(monkeypatch, 2, act)
    assert command.main(arguments(videos, beginning, tmp_path / "out", "--save_every", 1)) == 130
    told = capfd.readouterr().err
    assert told.endswith("\nStopped at once; the same command goes on from the last checkpoint.\n")
    assert torch.load(tmp_path / "out/checkpoint.pt", weights_only=True)["step"] == 1
    monkeypatch.undo()
    assert command.main(arguments(videos, beginning, tmp_path / "out", "--save_every", 1)) == 0
    assert torch.load(tmp_path / "out/checkpoint.pt", weights_only=True)["step"] == 2
