"""Processes that share a training: two make the weights that one makes, whoever of them keeps what."""

import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from videopainter.diffusion import VideoPainterBranchModel
from videopainter.diffusion.training.config import preset
from videopainter.diffusion.training.processes import make_accelerator

ROOT = Path(__file__).resolve().parents[3]
SMALL = ["--height", 64, "--width", 96, "--frames", 9, "--steps", 2, "--rank", 4, "--lr_warmup_steps", 0,
         "--learning_rate", 1e-3, "--lr_scheduler", "constant"]  # fmt: skip


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def launch(kind, processes, output, *arguments, configuration=None):
    """`accelerate launch` on CPUs, which starts processes for a configuration only."""
    command = [sys.executable, "-m"]
    if configuration:
        command += ["accelerate.commands.launch", "--config_file", ROOT / "train/configs" / configuration,
                    "--num_processes", processes, "--main_process_port", free_port(), "--main_process_ip", "127.0.0.1",
                    "--mixed_precision", "no"]  # fmt: skip
    else:
        command += ["torch.distributed.run", "--nproc_per_node", processes, "--master_addr", "127.0.0.1",
                    "--master_port", free_port()]  # fmt: skip
    command += [ROOT / f"train/train_{kind}.py", "--output_dir", output, *arguments]
    environment = {
        **os.environ,
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
    }
    done = subprocess.run(
        [str(one) for one in command], capture_output=True, text=True, env=environment, timeout=3000
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return done.stdout


WAYS = {"processes": None, "fsdp": "fsdp.yaml", "deepspeed": "deepspeed.yaml"}


@pytest.fixture(scope="session")
def begin(footage, base_folder, branch_folder):
    """Arguments of every launch."""
    return ["--data", footage, "--model_path", base_folder, "--branch", branch_folder, *SMALL]


@pytest.fixture(scope="session")
def one_process(begin, tmp_path_factory):
    """What one process makes that accumulates, by the kind of training."""
    made = {}

    def make(kind):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("one")
            launch(kind, 1, made[kind], *begin, "--accumulation", 2)
        return load_file(made[kind] / "checkpoint-2/trained.safetensors")

    return make


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["branch", "adapter"])
@pytest.mark.parametrize("way", WAYS)
def test_two_processes_are_one_that_accumulates(begin, one_process, tmp_path, kind, way):
    if way == "deepspeed" and find_spec("deepspeed") is None:
        pytest.skip("DeepSpeed is not installed: pip install --no-build-isolation deepspeed==0.19.8")
    one = one_process(kind)
    said = launch(kind, 2, tmp_path / "two", *begin, configuration=WAYS[way])
    assert "2 updates of 2." in said
    two = load_file(tmp_path / "two/checkpoint-2/trained.safetensors")
    assert one.keys() == two.keys()
    for key, tensor in one.items():
        # Adam's first steps are near the learning rate, whatever the gradient: where that is 0 but for rounding too.
        assert (tensor - two[key]).abs().mean() < 2e-5, key
    if kind == "branch":
        released = VideoPainterBranchModel.from_pretrained(tmp_path / "two/branch").state_dict()
        assert all(torch.equal(released[key], tensor) for key, tensor in two.items())
    else:
        assert (tmp_path / "two/pytorch_lora_weights.safetensors").is_file()
    # Going on gives what was never interrupted, to the bit.
    more = ["--steps", 3, "--checkpointing_steps", 3]
    launch(kind, 2, tmp_path / "whole", *begin, *more, configuration=WAYS[way])
    launch(kind, 2, tmp_path / "two", *begin, "--steps", 3, "--resume_from_checkpoint", "latest",
           configuration=WAYS[way])  # fmt: skip
    whole, resumed = (load_file(tmp_path / n / "checkpoint-3/trained.safetensors") for n in ("whole", "two"))
    assert all(torch.equal(tensor, resumed[key]) for key, tensor in whole.items())


def test_launches_that_are_refused(monkeypatch, tmp_path):
    from accelerate.utils import DeepSpeedPlugin

    from videopainter.diffusion.training import processes

    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "1")
    with pytest.raises(ValueError, match="say fsdp_version: 2"):
        make_accelerator(preset("branch"), None, tmp_path)
    monkeypatch.delenv("ACCELERATE_USE_FSDP")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setattr(processes, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="asks for DeepSpeed, which is not installed"):
        make_accelerator(preset("branch"), None, tmp_path)
    monkeypatch.setattr(processes, "find_spec", lambda name: name)
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")
    assert DeepSpeedPlugin().zero_stage == 3
    with pytest.raises(ValueError, match="DeepSpeed's stage 3"):
        make_accelerator(preset("branch"), None, tmp_path)


@pytest.mark.parametrize("name", ["fsdp.yaml", "deepspeed.yaml"])
def test_configurations_are_accelerates(name):
    """accelerate reads them without a complaint about an unknown key, which it would raise."""
    from accelerate.commands.config.config_args import load_config_from_file

    found = load_config_from_file(str(ROOT / "train/configs" / name))
    assert found.distributed_type.value.lower() == name.partition(".")[0]
