"""What is missing is said in one sentence, with the command that gets it, before anything is loaded."""

import os
import shutil
import subprocess
import sys

import pytest
import torch

from videopainter.diffusion import requirements
from videopainter.engine import ENGINES, EngineError, choose_engine, load_engine


def reason(**options):
    with pytest.raises(EngineError) as caught:
        load_engine(ENGINES["videopainter"], **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_all_is_there(cpu):
    assert requirements.missing() is None and ENGINES["videopainter"].available()[0]


def test_no_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("VIDEOPAINTER_CKPT", str(tmp_path))
    said = reason()
    assert str(tmp_path) in said and "python ckpt/download.py --only base,branch" in said
    assert "there is 'propagation'" in said
    assert "videopainter" in choose_engine("auto")[1]


@pytest.mark.parametrize("gone, part", [("VideoPainter", "branch"), ("CogVideoX-5b-I2V/vae", "base")])
def test_half_of_the_weights(cpu, monkeypatch, tmp_path, gone, part):
    shutil.copytree(cpu, tmp_path / "ckpt")
    shutil.rmtree(tmp_path / "ckpt" / gone)
    monkeypatch.setenv("VIDEOPAINTER_CKPT", str(tmp_path / "ckpt"))
    assert f"--only {part} gets them" in reason()


def test_wrong_folders(cpu, tmp_path):
    nowhere = tmp_path / "nowhere"
    for option, part in (("model_path", "base"), ("branch", "branch")):
        said = reason(**{option: nowhere})
        assert f"no folder '{nowhere}'" in said and f"--only {part}" in said
        said = reason(**{option: tmp_path})
        assert f"'{tmp_path}' is not a folder of" in said and "config.json" in said
    said = reason(id_adapter=nowhere)
    assert f"no ID adapter at '{nowhere}'" in said and "--only id" in said
    assert "--only flux" in reason(first_frame="flux")
    assert f"no folder '{nowhere}'" in reason(first_frame_model=nowhere)
    # where the folders are named, the weights folder need not hold them
    base, branch = cpu / "CogVideoX-5b-I2V", cpu / "VideoPainter/checkpoints/branch"
    assert requirements.missing(model_path=base, branch=str(branch)) is None


def test_one_named_folder_does_not_hide_that_the_other_is_missing(cpu, monkeypatch, tmp_path):
    monkeypatch.setenv("VIDEOPAINTER_CKPT", str(tmp_path))
    said = reason(model_path=cpu / "CogVideoX-5b-I2V")
    assert str(tmp_path) in said and "--only branch" in said


def test_no_gpu(weights, monkeypatch):
    monkeypatch.setenv("VIDEOPAINTER_CKPT", str(weights))
    monkeypatch.delenv("VIDEOPAINTER_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "finds no GPU (with VIDEOPAINTER_DEVICE=cpu it runs without one, for hours)" in reason()
    info, why = choose_engine("auto")
    assert info.name == "propagation" and "no GPU" in why
    assert requirements.missing(device="cpu") is None


def test_other_gpus(monkeypatch):
    monkeypatch.delenv("VIDEOPAINTER_DEVICE", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert requirements.find_device("cuda:0") == torch.device("cuda:0")
    assert requirements.find_device() == requirements.find_device("cuda") == torch.device("cuda:1")
    with pytest.raises(requirements.MissingRequirement, match="no GPU 'cuda:2'; PyTorch finds 2"):
        requirements.find_device("cuda:2")
    for wrong in ("gpu", "mps", "cuda:x"):
        with pytest.raises(requirements.MissingRequirement, match=f"not '{wrong}'"):
            requirements.find_device(wrong)


def test_the_allocator_is_told_unless_the_user_has(monkeypatch):
    names = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")

    def told(**environment):
        for name in names:
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        requirements.find_device("cpu")
        return tuple(os.environ.get(name) for name in names)

    assert told() == ("expandable_segments:True", None)
    assert told(PYTORCH_CUDA_ALLOC_CONF="backend:native") == ("backend:native", None)
    assert told(PYTORCH_ALLOC_CONF="backend:native") == (None, "backend:native")


def test_packages(cpu, monkeypatch):
    monkeypatch.setattr(requirements, "find_spec", lambda name: None if name in ("peft", "diffusers") else 1)
    assert "diffusers, peft are not installed; the extra [diffusion] has them" in reason()


def test_asking_loads_nothing(tmp_path):
    code = (
        "import sys; from videopainter.engine import choose_engine; print(choose_engine('auto')[0].name); "
        "print([m for m in ('torch', 'diffusers', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["propagation", "[]"]
