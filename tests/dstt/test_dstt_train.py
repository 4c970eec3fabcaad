"""Training: the loss, one exact resume, a loss that falls, and the command line from start to end."""

import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from small_dstt import film, write_photos

from videopainter.cli import train_dstt as command
from videopainter.dstt.training import generator, trainer, validate
from videopainter.dstt.training.curriculum import CURRICULA, Stage, TrainConfig, curriculum
from videopainter.dstt.training.curve import draw_curve
from videopainter.dstt.training.data import Sources
from videopainter.dstt.training.trainer import Steps, Trainer, loss_of, play, read_checkpoint
from videopainter.dstt.weights import load_model

TINY = replace(curriculum("tiny"), batch=2, frames_per_update=0)


def sources(config=TINY):
    photos = [film(1, (90, 120), seed=s)[0] for s in range(3)]
    return {stage.name: Sources([], photos) for stage in config.stages}


def short(steps=4, **changes) -> TrainConfig:
    return replace(TINY, stages=(Stage("stage1", steps, photos=True, frames=3),), **changes)


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def test_the_published_run_is_the_published_one():
    published = curriculum("published")
    assert [s.layouts for s in published.stages] == [("gta_im", "mit_indoor"), ("sun3d",), ("thumos14",)]
    assert [s.steps for s in published.stages] == [100_000, 25_000, 25_000]
    assert all(s.frames == 5 for s in published.stages)
    assert (published.learning_rate, published.betas, published.batch) == (1e-4, (0.0, 0.99), 2)
    assert published.frame_size == (360, 640) and published.mixed_precision
    assert published.updates == published.steps  # one a sequence


@pytest.mark.parametrize("name", sorted(CURRICULA))
def test_json_gives_the_same_run_back(name):
    config = curriculum(name)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_runs_that_cannot_be():
    with pytest.raises(ValueError, match="quick"):
        curriculum("quick")
    with pytest.raises(ValueError, match="one stage"):
        replace(TINY, stages=())
    with pytest.raises(ValueError, match="stage1"):
        Stage("stage1", 0)
    with pytest.raises(ValueError, match="stage1"):
        Stage("stage1", 1, batch=0)
    with pytest.raises(ValueError, match="speed_up"):
        TrainConfig.from_dict({**TINY.to_dict(), "speed_up": 3})
    with pytest.raises(ValueError, match="stage of a training has no 'pace'"):
        TrainConfig.from_dict({**TINY.to_dict(), "stages": [{"name": "a", "steps": 1, "pace": 2}]})
    with pytest.raises(ValueError, match="none is number 60"):
        TINY.stage_at(60)


def test_stages_follow_each_other_and_updates_are_counted():
    config = replace(TINY, stages=(Stage("a", 2, frames=5), Stage("b", 3, frames=4)), frames_per_update=2)
    assert [config.stage_at(s).name for s in range(5)] == ["a", "a", "b", "b", "b"]
    assert config.updates == 2 * 3 + 3 * 2


def test_a_stage_may_have_a_batch_of_its_own():
    config = replace(
        TINY, stages=(Stage("a", 1, photos=True, frames=1, batch=5), Stage("b", 1, photos=True, frames=2))
    )
    steps = Steps(config, {name: sources()["stage1"] for name in "ab"})
    assert [len(steps[i]) for i in range(2)] == [5, config.batch]
    trainer = Trainer(config)
    assert all(np.isfinite(trainer.train_step(steps[i])) for i in range(2))


def losses_of(config):
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    truth = torch.zeros(1, 3, 4, 4)
    painted = truth.clone()
    painted[..., 0], painted[..., 3] = 0.5, 0.2  # half of the hole, half of the rest
    maps = torch.zeros(1, 7, 4, 4)
    return float(loss_of(painted, truth, mask, torch.ones_like(truth), maps, config))


def test_the_loss_weighs_the_hole_and_the_rest():
    plain = replace(TINY, hole=1.0, valid=0.0, squared=0.0, decibels=0.0, gradient=0.0, steady=0.0)
    assert losses_of(plain) == pytest.approx(0.25)
    assert losses_of(replace(plain, valid=2.0)) == pytest.approx(0.25 + 2 * 0.1)
    assert losses_of(replace(plain, squared=1.0)) == pytest.approx(0.25 + 0.125)
    assert losses_of(replace(plain, decibels=0.1)) == pytest.approx(0.25 + np.log10(0.125 + 1e-4))
    assert losses_of(replace(plain, gradient=1.0)) == pytest.approx(0.25 + 0.5)
    assert losses_of(replace(plain, steady=1.0)) == pytest.approx(
        0.25
    )  # nothing valid: nothing to be steady with


def test_steadiness_counts_only_where_nothing_was_seen():
    config = replace(TINY, hole=0.0, valid=0.0, squared=0.0, decibels=0.0, gradient=0.0, steady=1.0)
    painted, mask, maps = torch.zeros(1, 3, 4, 4), torch.ones(1, 1, 4, 4), torch.zeros(1, 7, 4, 4)
    previous = torch.full_like(painted, 0.4)
    maps[:, 0] = 1
    maps[:, 1, :2] = 1
    assert float(loss_of(painted, painted, mask, previous, maps, config)) == pytest.approx(0.4)
    maps[:, 1] = 1
    assert float(loss_of(painted, painted, mask, previous, maps, config)) == 0


def test_steps_follow_from_the_seed_and_their_number():
    a, b = Steps(short(), sources()), Steps(short(), sources())
    for one, other in zip(a[2], b[2]):
        np.testing.assert_array_equal(one.truth, other.truth)
        np.testing.assert_array_equal(one.prepared[1].hole, other.prepared[1].hole)
    assert (a[2][0].truth != a[3][0].truth).any() and (a[2][0].truth != a[2][1].truth).any()
    other = Steps(short(seed=1), sources())
    assert (a[2][0].truth != other[2][0].truth).any()


def test_training_goes_on_bit_exactly(tmp_path):
    config = short(6, average=0.9, decay=True, warm_up=3)
    steps = Steps(config, sources())
    straight = Trainer(config)
    for i in range(6):
        straight.train_step(steps[i])
    first = Trainer(config)
    for i in range(3):
        first.train_step(steps[i])
    first.save(tmp_path / "last.pt")
    second = Trainer(replace(config, seed=5))  # another start, which the checkpoint replaces
    second.load(read_checkpoint(tmp_path / "last.pt"))
    assert second.step == 3
    for i in range(3, 6):
        second.train_step(steps[i])
    assert second.losses == straight.losses
    for name, tensor in weights(straight).items():
        assert torch.equal(tensor, second.model.state_dict()[name]), name
        assert torch.equal(straight.mean.state_dict()[name], second.mean.state_dict()[name]), name


def test_60_steps_lower_the_loss():
    """On two sequences gone through again and again, so that the fall is the network's and not chance."""
    config = short(60, learning_rate=3e-3, batch=1)
    steps = Steps(config, sources())
    trainer = Trainer(config)
    losses = [trainer.train_step(steps[i % 2]) for i in range(60)]
    assert np.mean(losses[-6:]) < 0.8 * np.mean(losses[:6])


def test_what_comes_before_gives_no_gradient():
    """Memory and output are detached: the first frame's loss alone decides the gradient of an update after it."""
    config = short(frames_per_update=1)
    samples = Steps(config, sources())[0]
    trainer = Trainer(config)
    with torch.no_grad():
        trainer.model.decoder.last.weight.normal_(0, 0.1)
    frames = play(trainer.model, samples, config, "cpu", False)
    first = next(frames)
    first.backward()
    second = next(frames)
    second.backward()  # would fail, the first graph being gone, if it reached back


def test_paths_that_are_left_out_are_not_used():
    samples = Steps(short(), sources())[0]
    trainer = Trainer(short())
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.normal_(0, 0.1)

    def losses(**changes):
        with torch.no_grad():
            return [float(x) for x in play(trainer.model, samples, short(**changes), "cpu", False)]

    full, no_tokens, no_previous = losses(), losses(token_memory=False), losses(use_previous=False)
    assert full[0] == no_tokens[0] == no_previous[0]
    assert full[1:] != no_tokens[1:] != no_previous[1:] != full[1:]


def test_validation_is_fixed_and_hides_the_truth():
    photos = Sources([], [film(1, (90, 120), seed=s)[0] for s in range(3)])
    a, b = (validate.validation_set(photos, (32, 48), count=2, frames=3) for _ in range(2))
    assert [c.kind for c in a] == ["travelling", "fixed"] * 2
    for one, other in zip(a, b):
        np.testing.assert_array_equal(one.frames, other.frames)
        np.testing.assert_array_equal(one.masks, other.masks)
        assert (validate.hidden(one)[one.masks] == (255, 0, 255)).all()
    for method in (validate.telea, command._propagated):
        score = validate.mean_psnr([method(case) for case in a], a)
        assert set(score) == {"travelling", "fixed"} and all(5 < v < 61 for v in score.values())


def test_the_curve_shows_a_falling_loss():
    file = draw_curve(np.geomspace(1, 0.01, 100), [(50, {"fixed": 20.0}), (100, {"fixed": 21.0})])
    picture = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert picture.shape == (480, 640, 3)
    line = np.argwhere((np.abs(picture[:240].astype(int) - (31, 119, 180)) < 60).all(-1))
    left, right = line[line[:, 1] < 200], line[line[:, 1] > 480]
    assert left[:, 0].mean() < right[:, 0].mean() - 50  # lower on the picture is a larger row
    assert draw_curve([], [])[:4] == b"\x89PNG"  # before the first step


def test_the_command_line_trains_and_resumes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(generator, "_PACKAGED", {})  # as if no package had photographs
    monkeypatch.setattr(validate, "validation_set", partial(validate.validation_set, count=1, frames=3))
    write_photos(tmp_path / "photos")
    config = replace(
        short(3, validate_every=2), stages=(Stage("stage1", 3, frames=2), Stage("stage2", 1, frames=2))
    )
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    out = tmp_path / "run"
    data = ["--data", f"photos={tmp_path / 'photos'}", "--workers", "0", "--device", "cpu"]
    data += ["--validation", f"photos={tmp_path / 'photos'}"]
    assert command.main(["--config", str(tmp_path / "config.json"), *data, "--output", str(out)]) == 0
    names = {p.name for p in out.iterdir()}
    assert names == {"last.pt", "stage1_final.pt", "stage2_final.pt", "curve.png", "model.safetensors"}
    printed = capsys.readouterr().out
    assert "telea" in printed and "propagation" in printed and "step 4" in printed
    model = load_model(out / "model.safetensors")
    assert model.config == config.network
    state = read_checkpoint(out / "last.pt")
    assert state["step"] == 4 and [s for s, _ in state["scores"]] == [0, 2, 3, 4]
    # From the first stage's end on again: the same weights.
    (out / "last.pt").write_bytes((out / "stage1_final.pt").read_bytes())
    (out / "model.safetensors").unlink()
    assert command.main(["--resume", *data, "--output", str(out)]) == 0
    for name, tensor in load_model(out / "model.safetensors").state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


@pytest.fixture
def command_line(tmp_path, monkeypatch):
    """(name of the folder, more) -> a run of four steps, checkpoints only at its end."""
    monkeypatch.setattr(generator, "_PACKAGED", {})
    monkeypatch.setattr(trainer, "validation_sources", lambda *args: None)
    monkeypatch.setattr(validate, "validation_set", lambda *args: [])
    write_photos(tmp_path / "photos")
    (tmp_path / "config.json").write_text(json.dumps(short(4, validate_every=100).to_dict()))
    data = ["--data", f"photos={tmp_path / 'photos'}", "--device", "cpu"]

    def run(name, *more):
        start = () if "--resume" in more else ("--config", str(tmp_path / "config.json"))
        return command.main([*start, *data, "--output", str(tmp_path / name), *more])

    return run


def test_stages_one_by_one(command_line, tmp_path, capsys):
    """The published curriculum's way: each stage a run of its own, with the weights of the one before."""
    assert command_line("first", "--stage", "1") == 0
    begun = read_checkpoint(tmp_path / "first" / "stage1_final.pt")
    config = json.loads((tmp_path / "config.json").read_text())
    config["stages"] = [config["stages"][0], {**config["stages"][0], "name": "stage2", "steps": 1}]
    config["learning_rate"] = 1e-12
    (tmp_path / "config.json").write_text(json.dumps(config))
    start = ("--start_from", str(tmp_path / "first" / "stage1_final.pt"))
    assert command_line("second", "--stage", "2", *start) == 0
    ended = read_checkpoint(tmp_path / "second" / "stage2_final.pt")
    assert ended["step"] == 1 and [s["name"] for s in ended["config"]["stages"]] == ["stage2"]
    for name, tensor in begun["mean"].items():
        torch.testing.assert_close(ended["model"][name], tensor, atol=1e-9, rtol=0)
    assert command_line("third", "--stage", "3") == 2
    assert "There are 2 stages, so none is number 3." in capsys.readouterr().err


@pytest.mark.slow
def test_the_described_scripts(tmp_path):
    """`python train.py` is the published first stage alone; `python inpaint_model.py` writes DSTT_OM_RT.onnx."""
    root = Path(__file__).resolve().parents[2]
    (tmp_path / "empty").mkdir()
    for arguments, said in (
        (
            ["train.py"],
            "Stage 'stage1' has nothing to train on; give it --data LAYOUT=FOLDER of the layout gta_im",
        ),
        (["train.py", "--stage", "2"], "Stage 'stage2' has nothing to train on.*layout sun3d"),
        (["inpaint_model.py", "--weights", "gone.safetensors"], "no weights of DSTT at 'gone.safetensors'"),
    ):
        command = [sys.executable, str(root / arguments[0]), *arguments[1:]]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2 and re.search(said, done.stderr), done.stderr


def interrupted(monkeypatch, at, act):
    """``act()`` is called in the middle of step number ``at``."""
    original = Trainer.train_step

    def step(self, samples):
        if self.step + 1 == at:
            act()
        return original(self, samples)

    monkeypatch.setattr(Trainer, "train_step", step)


@pytest.mark.parametrize(
    "number, status, workers",
    [(signal.SIGINT, 130, "0"), (signal.SIGTERM, 143, "0"), (signal.SIGINT, 130, "1")],
    ids=["int", "term", "int_worker"],
)
def test_ctrl_c_saves_the_step_that_it_is_at(
    command_line, tmp_path, monkeypatch, capfd, number, status, workers
):
    def act():
        for child in multiprocessing.active_children():  # Ctrl-C reaches them, too
            os.kill(child.pid, signal.SIGINT)
        signal.raise_signal(number)

    with monkeypatch.context() as patch:
        interrupted(patch, 2, act)
        assert command_line("run", "--workers", workers) == status
    told = capfd.readouterr().err
    assert told.count("Stops after this step") == 1 and "Traceback" not in told
    assert told.endswith("Stopped after step 2, which is saved; --resume goes on from there.\n")
    assert read_checkpoint(tmp_path / "run/last.pt")["step"] == 2
    assert command_line("run", "--resume", "--workers", workers) == 0
    assert command_line("whole", "--workers", "0") == 0
    whole, parts = (
        load_model(tmp_path / name / "model.safetensors").state_dict() for name in ("whole", "run")
    )
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())


def test_stopping_at_once_leaves_the_last_checkpoint(command_line, tmp_path, monkeypatch, capfd):
    """In the middle of a step there is nothing that could be saved."""

    def at_once():
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        interrupted(patch, 3, at_once)
        assert command_line("run", "--workers", "0") == 130
    assert (
        capfd.readouterr().err
        == "\nStopped at once; --resume goes on from the last checkpoint, if there is one.\n"
    )
    assert not (tmp_path / "run/last.pt").exists()


def test_mistakes_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(generator, "_PACKAGED", {})
    out = str(tmp_path / "run")
    for arguments, words in (
        (["--resume", "--output", out], "no checkpoint"),
        (["--curriculum", "quick", "--output", out], "quick"),
        (["--curriculum", "published", "--output", out], "gta_im or mit_indoor"),
        (["--config", str(tmp_path / "absent.json"), "--output", out], "absent.json"),
        (["--data", f"videos={tmp_path / 'absent'}", "--output", out], "absent"),
    ):
        assert command.main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("train: error: ") and words in error and error.count("\n") == 1
    with pytest.raises(SystemExit):
        command.main(["--data", "imagenet=x", "--output", out])
    assert not (tmp_path / "run").exists()


def test_checkpoints_that_cannot_be_used(tmp_path):
    bad = tmp_path / "last.pt"
    bad.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="last.pt"):
        read_checkpoint(bad)
    trainer = Trainer(short())
    state = trainer.state()
    wide = replace(short(), network=replace(TINY.network, hidden=32))
    with pytest.raises(ValueError, match="other sizes"):
        Trainer(wide).load(state)
    state["config"]["network"]["hidden"] = 32
    with pytest.raises(ValueError, match="other sizes"):
        trainer.load(state)


def test_a_package_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(generator, "_PACKAGED", {"no_such_package": ("data", ("x",))})
    with pytest.raises(ModuleNotFoundError, match="the extra .train. has it"):
        generator.packaged_photos()


def test_photographs_come_from_packages(tmp_path, monkeypatch):
    (tmp_path / "some_photos" / "data").mkdir(parents=True)
    (tmp_path / "some_photos" / "__init__.py").write_text("")
    for name in ("street", "kept"):
        cv2.imwrite(str(tmp_path / "some_photos" / "data" / f"{name}.png"), film(1, (20, 30))[0])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(generator, "_PACKAGED", {"some_photos": ("data", ("street", "kept"))})
    monkeypatch.setattr(generator, "_KEPT_FOR_VALIDATION", ("kept",))
    assert [p.shape for p in generator.packaged_photos()] == [(20, 30, 3)]
    assert len(generator.packaged_photos(validation=True)) == 1


def test_half_precision_changes_the_losses_only_a_little():
    """The way that a GPU takes, on the CPU."""
    samples = Steps(short(), sources())[0]
    trainer = Trainer(short())
    with torch.no_grad():
        trainer.model.decoder.last.weight.normal_(0, 0.1)
        full, half = (
            [float(x) for x in play(trainer.model, samples, short(), "cpu", amp)] for amp in (False, True)
        )
    assert half == pytest.approx(full, rel=0.02) and half != full
