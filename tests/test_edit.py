"""Editing: what an instruction says, and what the engine is told."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from videopainter import edit_video
from videopainter.cli import inpaint as command
from videopainter.edit import TransformersCaptioner, edit_prompts
from videopainter.engine import ENGINES
from videopainter.engines.base import NoOptions

SAID = {
    "make the car red": ("car", "a red car"),
    "Make the old car dark green.": ("old car", "a dark green old car"),
    "turn the lamp into a small tree": ("lamp", "a small tree"),
    "Change the lamp into a small tree.": ("lamp", "a small tree"),
    "replace her bag with an orange suitcase": ("bag", "an orange suitcase"),
    "make the dog look like a wolf": ("dog", "a wolf"),
    "make the car a tank": ("car", "a tank"),
    "change the color of the umbrella to orange": ("umbrella", "an orange umbrella"),
    "paint the wall blue": ("wall", "a blue wall"),
    "a castle in the clouds": (None, "a castle in the clouds"),
}


@pytest.mark.parametrize("instruction", SAID)
def test_what_an_instruction_says(instruction):
    prompts = edit_prompts(instruction)
    assert (prompts.old, prompts.thing) == SAID[instruction]
    assert prompts.caption == prompts.thing[0].upper() + prompts.thing[1:] + "."


def test_the_caption_of_the_edited_video():
    source = "A man washes the car. The car shines in the sun."
    assert "the car" not in edit_prompts("make the car red", source).caption
    assert edit_prompts("make the dog black", source).caption == f"{source} A black dog."
    assert edit_prompts("make the car red", source, "As I say.").caption == "As I say."
    asked = []

    def captioner(caption, instruction):
        asked.append((caption, instruction))
        return " A red car. "

    assert edit_prompts("make  the car red.", source, captioner=captioner).caption == "A red car."
    assert asked == [(source, "make the car red")]
    with pytest.raises(ValueError, match="An edit needs an instruction"):
        edit_prompts(" . ")


def test_a_local_model_as_captioner(monkeypatch):
    calls = []

    def pipeline(task, **options):
        calls.append((task, options))
        return lambda text, **more: calls.append((text, more)) or [{"generated_text": " A red car.\nMore"}]

    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(pipeline=pipeline))
    assert TransformersCaptioner("folder")("A car.", "make the car red") == "A red car."
    assert calls[0] == ("text-generation", {"model": "folder", "device": None})
    assert "A car." in calls[1][0] and "make the car red" in calls[1][0]


class Listener:
    """An engine with a prompt, which it keeps."""

    spec = ENGINES["propagation"]
    heard: list = []

    def __init__(self, **options):
        self.options = NoOptions()

    def __call__(self, source, masks, prompt=None, **_):
        Listener.heard.append((prompt, masks.share()))
        yield from source


@pytest.fixture
def clip():
    masks = np.zeros((2, 96, 96), bool)
    masks[:, 40:56, 40:56] = True
    return np.full((2, 96, 96, 3), 90, np.uint8), masks


@pytest.fixture
def listening(monkeypatch):
    import dataclasses

    info = dataclasses.replace(
        ENGINES["videopainter"], location=f"{__name__}:Listener", missing=lambda **options: None
    )
    monkeypatch.setitem(ENGINES, "videopainter", info)
    monkeypatch.setattr(Listener, "spec", info)
    Listener.heard = []
    return Listener.heard


def test_edit_video(clip, listening):
    video, masks = clip
    result = edit_video(
        video, "make the car red", masks, source_caption="A car at the kerb.", target_fps=None
    )
    assert result.frames.shape == video.shape and result.engine == "videopainter"
    assert listening[0][0] == "A red car at the kerb."
    assert listening[0][1] > masks.mean() * 1.3  # 48 of 480 lines wider and taller
    with pytest.raises(ValueError, match="Say which thing is edited: 'something else' does not name it"):
        edit_video(video, "something else")


def test_the_thing_is_found_by_its_name(clip, listening, monkeypatch):
    asked = {}

    def inpaint_video(video, masks, **arguments):
        asked.update(arguments)

    monkeypatch.setattr("videopainter.edit.inpaint_video", inpaint_video)
    edit_video(clip[0], "make the old car red")
    assert asked["select"] == "old car" and asked["first_frame_prompt"] == "a red old car"
    assert asked["first_frame"] == "none" and asked["dilate_size"] == 48  # FLUX is not there
    edit_video(clip[0], "make the old car red", select="van", first_frame="flux")
    assert asked["select"] == "van" and asked["first_frame"] == "flux"
    edit_video(clip[0], "make the old car red", clicks=[(1, 2)])
    assert asked["select"] is None


def test_the_flag(clip, listening, tmp_path, capsys):
    from videopainter.masks import MaskTrack
    from videopainter.video import VideoWriter

    video, masks = clip
    with VideoWriter(tmp_path / "v.mp4", 8, (96, 96)) as file:
        file.write(video)
    MaskTrack.from_array(masks).save_npz(tmp_path / "m.npz")
    given = ["--video", tmp_path / "v.mp4", "--mask", tmp_path / "m.npz", "--output_dir", tmp_path / "out"]
    edit = ["--edit", "turn the lamp into a small tree", "--source_caption", "A lamp."]
    assert command.main([str(one) for one in (*given, *edit)]) == 0, capsys.readouterr().err
    assert "Prompt: A small tree." in capsys.readouterr().out and listening[0][0] == "A small tree."
    with pytest.raises(SystemExit):
        command.main([str(one) for one in (*given, "--source_caption", "x")])
    assert "--source_caption and --captioner are of --edit" in capsys.readouterr().err
