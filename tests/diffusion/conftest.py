"""A tiny VideoPainter with random weights: networks of the golden data's sizes, and folders to load them from."""

import copy
import importlib.util
import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXTransformer3DModel,
)
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from videopainter.diffusion import (
    IDPool,
    VideoPainterBranchModel,
    VideoPainterPipeline,
    VideoPainterTransformer3DModel,
)

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "parity" / "data"
CONFIG = json.loads((DATA / "videopainter" / "config_tiny.json").read_text(encoding="utf-8"))
WORDS = ["▁a", "▁dog", "▁cat", "▁red", "▁car", "▁tree", "▁bad", "▁on", "▁the", "▁road"]
HEIGHT, WIDTH, WINDOW = 64, 96, 9


@cache
def _fill():
    spec = importlib.util.spec_from_file_location("parity_fill", DATA / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def _network(name: str) -> torch.nn.Module:
    kind = {
        "transformer": VideoPainterTransformer3DModel,
        "base": CogVideoXTransformer3DModel,
        "branch": VideoPainterBranchModel,
        "vae": AutoencoderKLCogVideoX,
    }[name]
    role = "transformer" if name == "base" else name
    network = kind.from_config(CONFIG[role]).eval()
    return _fill().fill_module_(network, CONFIG["seeds"][role])


@cache
def _text_encoder() -> T5EncoderModel:
    torch.manual_seed(0)
    shape = {"d_model": 32, "d_kv": 8, "num_heads": 4, "d_ff": 37, "num_layers": 1}
    config = T5Config(vocab_size=128, feed_forward_proj="gated-gelu", **shape)
    return T5EncoderModel(config).eval()


@cache
def _tokenizer() -> T5Tokenizer:
    words = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -4.0), *((word, -2.0) for word in WORDS)]
    letters = [(letter, -6.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    return T5Tokenizer(vocab=words + letters, extra_ids=4)


def make(name: str) -> torch.nn.Module:
    """A fresh network with the same weights every time: transformer, base, branch or vae."""
    return copy.deepcopy(_network(name))


def make_pipeline(
    text: bool = False, kind: type = VideoPainterPipeline, **components
) -> VideoPainterPipeline:
    """A fresh pipeline; with tokenizer and text encoder if ``text``."""
    defaults = {
        "tokenizer": lambda: copy.deepcopy(_tokenizer()) if text else None,
        "text_encoder": lambda: copy.deepcopy(_text_encoder()) if text else None,
        "vae": lambda: make("vae"),
        "transformer": lambda: make("transformer"),
        "scheduler": lambda: CogVideoXDPMScheduler.from_config(CONFIG["scheduler"]),
        "branch": lambda: make("branch"),
    }
    parts = {name: components[name] if name in components else build() for name, build in defaults.items()}
    pipe = kind(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def make_clip(frames: int = WINDOW, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """uint8 video ``[frames, height, width, 3]`` and bool masks: a hole of 28 x 36 that walks to the right."""
    rng = np.random.default_rng(seed)
    video = rng.integers(0, 256, (frames, HEIGHT // 8, WIDTH // 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    masks = np.zeros((frames, HEIGHT, WIDTH), bool)
    for number in range(frames):
        left = 20 + 2 * (number % 16)
        masks[number, 18:46, left : left + 36] = True
    return video, masks


def embeds(seed: int = 0, batch: int = 1, tokens: int = 16) -> torch.Tensor:
    """Text embeddings ``[batch, tokens, 32]``."""
    return torch.randn(batch, tokens, 32, generator=torch.Generator().manual_seed(seed))


def make_arguments(frames: int = WINDOW, **changes) -> dict:
    """A call of the pipeline without text encoder: 2 steps, numpy frames, seed 0."""
    video, masks = make_clip(frames)
    arguments = {
        "video": video,
        "masks": masks,
        "prompt_embeds": embeds(1),
        "negative_prompt_embeds": embeds(2),
        "num_inference_steps": 2,
        "output_type": "np",
        "generator": torch.Generator().manual_seed(0),
    }
    return {**arguments, **changes}


def make_model_inputs(seed: int = 0, frames: int = 3) -> SimpleNamespace:
    """Arguments of one forward: ``base`` for any CogVideoX transformer, ``branch`` for the branch, ``mask``,
    and ``samples`` such as the branch gives."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    tokens = frames * 4 * 6
    angle = draw(tokens, 8).repeat_interleave(2, dim=1)
    rotary = (angle.cos(), angle.sin())
    mask = torch.zeros(2, frames, 1, 8, 12)
    mask[:, :, :, 2:7, 3 + seed % 3 : 8] = 1
    text, timestep = draw(2, 16, 32), torch.tensor([700, 350])
    latents = draw(2, frames, 32, 8, 12)
    shared = {"encoder_hidden_states": text, "timestep": timestep, "image_rotary_emb": rotary}
    branch_cond = torch.cat([draw(2, frames, 16, 8, 12), mask], dim=2)
    return SimpleNamespace(
        base={"hidden_states": latents, **shared},
        branch={"hidden_states": latents[:, :, :16], "branch_cond": branch_cond, **shared},
        mask=mask,
        samples=[draw(2, tokens, 64), draw(2, tokens, 64)],
    )


def make_modes() -> dict[str, dict]:
    """Arguments for every way to run the transformer: like the base model, with the branch everywhere or outside
    the hole only, and with the ID pool: within the clip, and of the window before with and without resampling."""
    inputs = make_model_inputs()
    generator = torch.Generator().manual_seed(9)
    text, sequence = 16, 16 + inputs.samples[0].shape[1]
    before = torch.zeros(2, sequence, dtype=torch.bool)
    before[:, 30:50] = True

    def pool(positions):
        states = [torch.randn(2, len(positions), 64, generator=generator) for _ in range(4)]
        return IDPool(states, positions, before, int((positions < text).sum()))

    masked = {**inputs.base, "mask": inputs.mask, "mask_add": True, "branch_block_samples": inputs.samples}
    hole = {"id_pool": pool(before[0].nonzero()[:, 0]), "prev_clip_weight": 0.5}
    return {
        "plain": inputs.base,
        "branch": {**inputs.base, "branch_block_samples": inputs.samples},
        "masked": masked,
        "resample": {**masked, "resample": True},
        "resample next": {**masked, "resample": True, **hole},
        "plain next": {**masked, "id_pool": pool(torch.arange(sequence)), "prev_clip_weight": 0.3},
    }


@pytest.fixture(scope="session")
def modes() -> dict[str, dict]:
    """See `make_modes`; not to be changed."""
    return make_modes()


@pytest.fixture(scope="session")
def tiny() -> SimpleNamespace:
    """All makers of this file, for tests that change what they get."""
    return SimpleNamespace(
        config=CONFIG,
        root=ROOT,
        data=DATA / "videopainter",
        plugin=str(ROOT / "pipelines" / "videopainter"),
        size=(HEIGHT, WIDTH),
        window=WINDOW,
        fill=_fill(),
        make=make,
        pipeline=make_pipeline,
        clip=make_clip,
        arguments=make_arguments,
        embeds=embeds,
        model_inputs=make_model_inputs,
    )


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory) -> Path:
    """A tiny base model, laid out as CogVideoX-5b-I2V is: of stock classes, and with the DDIM scheduler."""
    folder = tmp_path_factory.mktemp("base")
    ddim = {**CONFIG["scheduler"], "timestep_spacing": "linspace"}
    CogVideoXImageToVideoPipeline(
        tokenizer=_tokenizer(),
        text_encoder=_text_encoder(),
        vae=make("vae"),
        transformer=make("base"),
        scheduler=CogVideoXDDIMScheduler.from_config(ddim),
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def branch_folder(tmp_path_factory) -> Path:
    """A branch of its own, as the released checkpoint has one."""
    folder = tmp_path_factory.mktemp("checkpoints") / "branch"
    make("branch").save_pretrained(folder)
    return folder
