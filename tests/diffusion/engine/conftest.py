"""A weights folder as released, with tiny random networks in it, and a clip to try them on."""

import importlib.util
import json
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sentencepiece
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXImageToVideoPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from videopainter.masks import MaskTrack
from videopainter.video import VideoWriter

ROOT = Path(__file__).parents[3]
SIZE = (64, 96)  # at which the tiny network works
FPS, COUNT, HEIGHT, WIDTH = Fraction(24), 40, 144, 200


def _makers():
    """The tiny networks of tests/diffusion."""
    spec = importlib.util.spec_from_file_location("tiny_networks", ROOT / "tests/diffusion/conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_tokenizer(folder: Path) -> None:
    """The files of a T5 tokenizer as published: a SentencePiece model, and no tokenizer.json."""
    folder.mkdir(parents=True)
    text = [
        "a wall of red bricks and a green tree",
        "the road is empty",
        "a dog on the road",
        "a clean surface",
    ]
    with open(folder / "spiece.model", "wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(text * 20),
            model_writer=file,
            vocab_size=33,
            pad_id=0,
            eos_id=1,
            unk_id=2,
            bos_id=-1,
            minloglevel=2,
        )
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    config = {**special, "tokenizer_class": "T5Tokenizer", "extra_ids": 0, "model_max_length": 226}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").write_text(json.dumps(special))


@pytest.fixture(scope="session", name="write_tokenizer")
def _write_tokenizer():
    return write_tokenizer


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    """The folder. Not to be changed: copy it for that."""
    return write_weights(tmp_path_factory.mktemp("ckpt"))


def write_weights(root: Path) -> Path:
    """Tiny random networks in `root`, laid out as they are released."""
    tiny = _makers()
    base = root / "CogVideoX-5b-I2V"
    transformer, vae = tiny.make("base"), tiny.make("vae")
    vae.register_to_config(sample_height=96, sample_width=160)  # tiles that fit together, two by two
    CogVideoXImageToVideoPipeline(
        tokenizer=None,
        text_encoder=tiny._text_encoder(),
        vae=vae,
        transformer=transformer,
        scheduler=CogVideoXDDIMScheduler.from_config(
            {**tiny.CONFIG["scheduler"], "timestep_spacing": "linspace"}
        ),
    ).save_pretrained(base)
    write_tokenizer(base / "tokenizer")
    tiny.make("branch").save_pretrained(root / "VideoPainter/checkpoints/branch")
    torch.manual_seed(3)
    layers = ["to_q", "to_k", "to_v", "to_out.0"]
    transformer.add_adapter(
        LoraConfig(r=4, lora_alpha=4, target_modules=layers, init_lora_weights=False), "id"
    )
    CogVideoXImageToVideoPipeline.save_lora_weights(
        root / "VideoPainterID/checkpoints", get_peft_model_state_dict(transformer, adapter_name="id")
    )
    return root


@pytest.fixture
def cpu(monkeypatch, weights) -> Path:
    """Those weights, to be run without a GPU."""
    monkeypatch.setenv("VIDEOPAINTER_CKPT", str(weights))
    monkeypatch.setenv("VIDEOPAINTER_DEVICE", "cpu")
    return weights


def make_clip(count: int = COUNT, height: int = HEIGHT, width: int = WIDTH) -> tuple[np.ndarray, np.ndarray]:
    """uint8 frames (count, height, width, 3): a dark disc crosses a coloured ground; bool masks of it."""
    rng = np.random.default_rng(5)
    ground = np.kron(rng.integers(90, 230, (height // 8, width // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    y, x = np.mgrid[:height, :width]
    frames, masks = np.repeat(ground[None], count, axis=0), np.zeros((count, height, width), bool)
    for i in range(count):
        masks[i] = np.hypot(y - height * 0.5, x - width * 0.3 - 1.5 * i) < 14
        frames[i][masks[i]] = (20, 20, 50)
    return frames, masks


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> SimpleNamespace:
    """`video`: an .mp4 of `frames`; `npz`: their `masks`."""
    folder = tmp_path_factory.mktemp("clip")
    frames, masks = make_clip()
    with VideoWriter(folder / "clip.mp4", FPS, (HEIGHT, WIDTH)) as writer:
        writer.write(frames)
    MaskTrack.from_array(masks).save_npz(folder / "masks.npz")
    return SimpleNamespace(video=folder / "clip.mp4", npz=folder / "masks.npz", frames=frames, masks=masks)
