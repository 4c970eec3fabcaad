"""FLUX Fill as the painter of the first frame, on a tiny random one in a folder as it is released."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxFillPipeline, FluxTransformer2DModel
from PIL import Image
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from videopainter.diffusion import VideoPainterEngine, first_frame
from videopainter.diffusion import engine as module
from videopainter.engine import EngineError
from videopainter.masks import MaskTrack
from videopainter.video import ArraySource

SIZE = (64, 96)


def write_clip_tokenizer(folder: Path) -> None:
    """The files of a CLIP tokenizer as published, for single letters."""
    folder.mkdir(parents=True)
    pieces = ["<|startoftext|>", "<|endoftext|>", *"abcdefghijklmnopqrstuvwxyz"]
    pieces += [f"{letter}</w>" for letter in "abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": pieces[0], "eos_token": pieces[1], "unk_token": pieces[1], "pad_token": pieces[1]}
    config = {**special, "tokenizer_class": "CLIPTokenizer", "model_max_length": 77}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").write_text(json.dumps(special))


@pytest.fixture(scope="module")
def flux(tmp_path_factory, write_tokenizer) -> Path:
    """A weights folder with nothing but `flux_inp` in it."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("flux")
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=20,
        out_channels=8,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        guidance_embeds=True,
        axes_dims_rope=(4, 4, 8),
    )
    clip = CLIPTextConfig(
        bos_token_id=0,
        eos_token_id=1,
        hidden_size=32,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=1,
        vocab_size=54,
        projection_dim=32,
    )
    t5 = T5Config(vocab_size=128, d_model=32, d_kv=8, num_heads=4, d_ff=37, num_layers=1)
    vae = AutoencoderKL(
        block_out_channels=(4,), latent_channels=2, norm_num_groups=1, shift_factor=0.06, scaling_factor=1.5
    )
    FluxFillPipeline(
        FlowMatchEulerDiscreteScheduler(),
        vae,
        CLIPTextModel(clip),
        None,
        T5EncoderModel(t5),
        None,
        transformer,
    ).save_pretrained(root / "flux_inp")
    index = root / "flux_inp/model_index.json"
    parts = json.loads(index.read_text())
    parts |= {
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "T5TokenizerFast"],
    }
    index.write_text(json.dumps(parts))
    write_clip_tokenizer(root / "flux_inp/tokenizer")
    write_tokenizer(root / "flux_inp/tokenizer_2")
    return root


@pytest.fixture
def frame(clip):
    return clip.frames[0, 40:104, 40:136], clip.masks[0, 40:104, 40:136]


def paint(flux, frame, seed=0, prompt="a red wall", size=SIZE):
    generator = torch.Generator().manual_seed(seed)
    cpu = torch.device("cpu")
    folder = flux / "flux_inp"
    return first_frame.inpaint_first_frame(
        folder, *frame, prompt, size, generator, cpu, num_inference_steps=2
    )


def test_it_paints_the_hole_and_nothing_else(flux, frame):
    picture, hole = frame
    out = paint(flux, frame)
    assert out.shape == picture.shape and out.dtype == np.uint8
    np.testing.assert_array_equal(out[~hole], picture[~hole])
    assert not np.array_equal(out[hole], picture[hole])
    np.testing.assert_array_equal(out, paint(flux, frame))
    assert not np.array_equal(out, paint(flux, frame, seed=1))
    assert not np.array_equal(out, paint(flux, frame, prompt="the dog"))


def test_any_size_of_frame(flux, clip):
    picture, hole = clip.frames[0, :50, :70], clip.masks[0, 50:100, 20:90]
    out = paint(flux, (picture, hole))
    np.testing.assert_array_equal(out[~hole], picture[~hole])


def test_it_is_called_as_the_reference_calls_it(flux, frame, monkeypatch):
    seen = {}

    def call(pipe, **arguments):
        seen.update(arguments)
        return type("Output", (), {"images": [arguments["image"]]})

    monkeypatch.setattr(FluxFillPipeline, "__call__", call)
    cpu, generator = torch.device("cpu"), torch.Generator()
    first_frame.inpaint_first_frame(flux / "flux_inp", *frame, "a wall", (480, 720), generator, cpu)
    assert (seen["guidance_scale"], seen["num_inference_steps"]) == (30.0, 50)
    assert (seen["height"], seen["width"], seen["prompt"]) == (480, 720, "a wall")
    assert (np.asarray(seen["mask_image"]) > 0).sum() == frame[1].sum()


def test_the_engine_takes_it_where_its_weights_are(cpu, flux, clip, monkeypatch):
    base, branch = cpu / "CogVideoX-5b-I2V", cpu / "VideoPainter/checkpoints/branch"
    monkeypatch.setenv("VIDEOPAINTER_CKPT", str(flux))
    given = {"model_path": base, "branch": branch, "num_inference_steps": 1}
    assert VideoPainterEngine(**given, first_frame="propagation").options.first_frame == "propagation"
    monkeypatch.setenv("VIDEOPAINTER_CKPT", str(cpu))
    assert VideoPainterEngine(**given).options.first_frame == "propagation"
    assert VideoPainterEngine(**given, first_frame_model=flux / "flux_inp").options.first_frame == "flux"
    monkeypatch.setenv("VIDEOPAINTER_CKPT", str(flux))
    engine = VideoPainterEngine(**given, first_frame_prompt="a green tree")
    assert engine.options.first_frame == "flux" and not engine.spec.wants_first_frame
    seen, images, loaded = [], [], []
    load = module.VideoPainterTransformer3DModel.from_pretrained

    def loading(*args, **kwargs):
        loaded.append(1)
        return load(*args, **kwargs)

    monkeypatch.setattr(module.VideoPainterTransformer3DModel, "from_pretrained", loading)

    def painted(folder, frame, hole, prompt, size, generator, device, beat):
        assert not loaded  # FLUX comes and goes before VideoPainter is loaded
        seen.append((folder, prompt, size, hole.sum()))
        return np.full_like(frame, 77)

    def stream(pipe, video, masks, **arguments):
        images.append(np.asarray(arguments["image"]))
        yield np.zeros((1, len(video), *SIZE, 3))

    monkeypatch.setattr(module, "inpaint_first_frame", painted)
    monkeypatch.setattr(module.VideoPainterPipeline, "stream", stream)
    frames, masks = clip.frames[:2, 40:104, 40:136], MaskTrack.from_array(clip.masks[:2, 40:104, 40:136])
    assert len(list(engine(ArraySource(frames), masks, prompt="a wall"))) == 2
    assert seen == [(flux / "flux_inp", "a green tree", SIZE, masks[0].sum())]
    assert (images[0] == 77).all() and loaded


def test_nothing_to_paint_in_the_first_frame(cpu, flux, clip, monkeypatch):
    base, branch = cpu / "CogVideoX-5b-I2V", cpu / "VideoPainter/checkpoints/branch"
    monkeypatch.setenv("VIDEOPAINTER_CKPT", str(flux))
    engine = VideoPainterEngine(model_path=base, branch=branch, first_frame="flux")
    monkeypatch.setattr(module, "inpaint_first_frame", lambda *_: pytest.fail("FLUX was asked"))
    masks = MaskTrack.from_array(clip.masks[:2] & False)
    images = []

    def stream(pipe, video, masks, **arguments):
        images.append(arguments["image"])
        yield np.zeros((1, len(video), *SIZE, 3))

    monkeypatch.setattr(module.VideoPainterPipeline, "stream", stream)
    assert len(list(engine(ArraySource(clip.frames[:2]), masks, prompt="a wall"))) == 2
    assert images == [None]


def test_auto_leaves_it_where_it_does_not_fit(cpu, flux, monkeypatch):
    base, branch = cpu / "CogVideoX-5b-I2V", cpu / "VideoPainter/checkpoints/branch"
    monkeypatch.setenv("VIDEOPAINTER_CKPT", str(flux))
    monkeypatch.setattr(first_frame, "free_memory", lambda device: first_frame.FREE_MEMORY_NEEDED - 1)
    assert VideoPainterEngine(model_path=base, branch=branch).options.first_frame == "propagation"
    assert (
        VideoPainterEngine(model_path=base, branch=branch, first_frame="flux").options.first_frame == "flux"
    )


def test_damaged_weights_are_one_sentence(cpu, flux, clip, monkeypatch, tmp_path):
    import shutil

    shutil.copytree(flux, tmp_path / "ckpt")
    base, branch = cpu / "CogVideoX-5b-I2V", cpu / "VideoPainter/checkpoints/branch"
    monkeypatch.setenv("VIDEOPAINTER_CKPT", str(tmp_path / "ckpt"))
    path = tmp_path / "ckpt/flux_inp/transformer/diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    engine = VideoPainterEngine(model_path=base, branch=branch, first_frame="flux")
    stream = engine(ArraySource(clip.frames[:2]), MaskTrack.from_array(clip.masks[:2]), prompt="a wall")
    with pytest.raises(EngineError, match="flux_inp' cannot be used") as caught:
        next(stream)
    assert "\n" not in str(caught.value)


def test_out_of_memory_lowers_flux_alone(monkeypatch, caplog, tmp_path):
    """Layer by layer then, with the same draws; and only if that is not enough either, the error comes out."""
    calls = []

    def call(folder, frame, hole, prompt, size, generator, device, steps, beat, whole):
        calls.append((whole, generator.get_state().tolist()))
        torch.randn(3, generator=generator)
        if whole:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return Image.fromarray(np.full((*size, 3), 9, np.uint8))

    monkeypatch.setattr(first_frame, "_call", call)
    frame, hole = np.zeros((*SIZE, 3), np.uint8), np.ones(SIZE, bool)
    arguments = (tmp_path, frame, hole, "a wall", SIZE, torch.Generator().manual_seed(3), torch.device("cpu"))
    with caplog.at_level("WARNING", "videopainter"):
        assert (first_frame.inpaint_first_frame(*arguments) == 9).all()
    assert [whole for whole, _ in calls] == [True, False] and calls[0][1] == calls[1][1]
    assert "layer by layer" in caplog.text
    monkeypatch.setattr(first_frame, "fits", lambda device: False)
    calls.clear()
    first_frame.inpaint_first_frame(*arguments)
    assert [whole for whole, _ in calls] == [False]
