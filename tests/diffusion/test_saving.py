"""From folder to pipeline and back: every way in gives the same frames."""

import json
import shutil

import pytest
import torch
from diffusers import CogVideoXDPMScheduler, CogVideoXImageToVideoPipeline, DiffusionPipeline

from videopainter.diffusion import (
    VideoPainterBranchModel,
    VideoPainterPipeline,
    VideoPainterTransformer3DModel,
)

TEXT = {
    "prompt": "a red car on the road",
    "negative_prompt": "a bad dog",
    "prompt_embeds": None,
    "negative_prompt_embeds": None,
    "max_sequence_length": 16,
    "output_type": "latent",
}


@pytest.fixture(scope="module")
def expected(tiny):
    return tiny.pipeline(text=True)(**tiny.arguments(**TEXT)).frames


@pytest.fixture
def branch(branch_folder):
    return VideoPainterBranchModel.from_pretrained(branch_folder)


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


def load_by_plugin(tiny, folder, **kwargs):
    return quiet(
        DiffusionPipeline.from_pretrained(
            folder, custom_pipeline=tiny.plugin, trust_remote_code=True, **kwargs
        )
    )


def test_base_folder_and_branch(tiny, base_folder, branch, expected):
    pipe = quiet(VideoPainterPipeline.from_pretrained(base_folder, branch=branch))
    assert type(pipe.transformer) is VideoPainterTransformer3DModel and pipe.branch is branch
    assert type(pipe.scheduler) is CogVideoXDPMScheduler
    assert pipe.scheduler.config.timestep_spacing == "trailing"
    assert torch.equal(pipe(**tiny.arguments(**TEXT)).frames, expected)


def test_custom_pipeline(tiny, base_folder, branch, expected):
    pipe = load_by_plugin(tiny, base_folder, branch=branch)
    assert type(pipe).__name__ == "VideoPainterPipeline"
    assert torch.equal(pipe(**tiny.arguments(**TEXT)).frames, expected)


def test_custom_pipeline_by_a_relative_path(tiny, base_folder, branch, monkeypatch):
    """As in the guide: from the repository's folder."""
    monkeypatch.chdir(tiny.root)
    pipe = DiffusionPipeline.from_pretrained(
        base_folder, custom_pipeline="pipelines/videopainter", trust_remote_code=True, branch=branch
    )
    assert type(pipe).__name__ == "VideoPainterPipeline"
    assert type(pipe.transformer) is VideoPainterTransformer3DModel


def test_custom_pipeline_needs_trust(tiny, base_folder, branch):
    """It runs the code of the folder, so diffusers wants to be told."""
    with pytest.raises(ValueError, match="trust_remote_code"):
        DiffusionPipeline.from_pretrained(base_folder, custom_pipeline=tiny.plugin, branch=branch)


def test_components_given_by_hand(tiny, base_folder, branch, expected):
    transformer = VideoPainterTransformer3DModel.from_pretrained(base_folder, subfolder="transformer")
    pipe = VideoPainterPipeline.from_pretrained(base_folder, branch=branch, transformer=transformer)
    assert pipe.transformer is transformer
    assert torch.equal(quiet(pipe)(**tiny.arguments(**TEXT)).frames, expected)


@pytest.mark.parametrize("way", ["class", "custom_pipeline"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trip(tiny, tmp_path, expected, way, dtype):
    pipe = tiny.pipeline(text=True)
    pipe.save_pretrained(tmp_path)
    if way == "class":
        again = quiet(VideoPainterPipeline.from_pretrained(tmp_path, dtype=dtype))
    else:
        again = load_by_plugin(tiny, tmp_path, dtype=dtype)
    networks = {name: one for name, one in again.components.items() if isinstance(one, torch.nn.Module)}
    assert networks.keys() == {"text_encoder", "vae", "transformer", "branch"}
    assert {network.dtype for network in networks.values()} == {dtype}
    assert not any(network.training for network in networks.values())
    frames = again(**tiny.arguments(**TEXT)).frames
    if dtype == torch.float32:
        assert torch.equal(frames, expected)
    else:
        assert frames.dtype == dtype and torch.equal(frames, pipe.to(dtype)(**tiny.arguments(**TEXT)).frames)
    assert {path.name for path in tmp_path.iterdir()} == {*again.components, "model_index.json"}


def test_sharded_and_variant(tiny, tmp_path):
    expected = tiny.pipeline()(**tiny.arguments(output_type="latent")).frames
    tiny.pipeline().save_pretrained(tmp_path, max_shard_size="300KB", variant="fp16")
    assert list((tmp_path / "transformer").glob("*.fp16-0000*.safetensors"))
    again = quiet(VideoPainterPipeline.from_pretrained(tmp_path, variant="fp16"))
    assert torch.equal(again(**tiny.arguments(output_type="latent")).frames, expected)


def test_without_text_encoder(tiny, tmp_path):
    """It is an optional component, in the folder and in the call."""
    pipe = tiny.pipeline()
    expected = pipe(**tiny.arguments(output_type="latent")).frames
    pipe.save_pretrained(tmp_path)
    assert not (tmp_path / "text_encoder").exists() and not (tmp_path / "tokenizer").exists()
    again = quiet(VideoPainterPipeline.from_pretrained(tmp_path))
    assert again.text_encoder is None and again.tokenizer is None
    assert torch.equal(again(**tiny.arguments(output_type="latent")).frames, expected)


def test_base_folder_without_its_text_encoder(tiny, base_folder, branch):
    pipe = VideoPainterPipeline.from_pretrained(base_folder, branch=branch, tokenizer=None, text_encoder=None)
    assert pipe.text_encoder is None
    frames = quiet(pipe)(**tiny.arguments(output_type="latent")).frames
    assert torch.equal(frames, tiny.pipeline()(**tiny.arguments(output_type="latent")).frames)


@pytest.mark.parametrize("name", ["vae", "transformer", "branch"])
def test_without_a_network(tiny, name):
    """It can be made, to encode prompts where memory is short, but not called."""
    pipe = tiny.pipeline(text=True, **{name: None})
    expected = tiny.pipeline(text=True).encode_prompt("a dog", "a cat", max_sequence_length=16)
    assert all(map(torch.equal, pipe.encode_prompt("a dog", "a cat", max_sequence_length=16), expected))
    with pytest.raises(ValueError, match=f"without `{name}`"):
        pipe(**tiny.arguments())


def test_the_saved_base_model_still_loads_as_stock(tiny, tmp_path, base_folder, branch):
    """What is saved of the transformer is the base model's format."""
    VideoPainterPipeline.from_pretrained(base_folder, branch=branch).save_pretrained(tmp_path)
    shutil.rmtree(tmp_path / "branch")
    shutil.copy(base_folder / "model_index.json", tmp_path)
    config = json.loads((tmp_path / "transformer" / "config.json").read_text(encoding="utf-8"))
    assert config["_class_name"] == "VideoPainterTransformer3DModel"
    stock = CogVideoXImageToVideoPipeline.from_pretrained(tmp_path)
    ours = tiny.make("base").state_dict()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in stock.transformer.state_dict().items())


def test_from_pipe(tiny, base_folder, branch, expected):
    """From a stock pipeline that is already in memory, without a second copy of its weights."""
    stock = CogVideoXImageToVideoPipeline.from_pretrained(base_folder)
    pipe = quiet(VideoPainterPipeline.from_pipe(stock, branch=branch))
    assert pipe.vae is stock.vae
    assert pipe.transformer.proj_out.weight.data_ptr() == stock.transformer.proj_out.weight.data_ptr()
    assert torch.equal(pipe(**tiny.arguments(**TEXT)).frames, expected)
