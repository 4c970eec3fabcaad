"""What diffusers' own suites ask of a pipeline, of a model, of adapters and of caches, asked of ours."""

import inspect

import numpy as np
import pytest
import torch
from diffusers import CogVideoXImageToVideoPipeline, hooks
from PIL import Image

from videopainter.diffusion import (
    VideoPainterBranchModel,
    VideoPainterPipeline,
    VideoPainterTransformer3DModel,
)
from videopainter.diffusion.inputs import MaskInput

LATENT = {"output_type": "latent"}


# --- a pipeline -----------------------------------------------------------------------------------------------


def test_none_for_every_component():
    pipe = VideoPainterPipeline(None, None, None, None, None, None)
    assert set(pipe.components) == {"tokenizer", "text_encoder", "vae", "transformer", "scheduler", "branch"}
    assert all(component is None for component in pipe.components.values())
    with pytest.raises(ValueError, match="without `transformer`"):
        pipe([Image.new("RGB", (96, 64))], np.ones((1, 64, 96)))


def test_from_pipe_keeps_all_components(tiny):
    pipe = tiny.pipeline(text=True)
    again = VideoPainterPipeline.from_pipe(pipe)
    assert all(again.components[name] is one for name, one in pipe.components.items())
    stock = CogVideoXImageToVideoPipeline.from_pipe(pipe, transformer=tiny.make("base"))
    assert stock.vae is pipe.vae and set(stock.components) == set(pipe.components) - {"branch"}


@pytest.mark.parametrize("dynamic", [False, True])
def test_a_callback_changes_the_guidance(tiny, dynamic):
    """diffusers' `test_callback_cfg`: what a callback adds at every step is there at the end."""
    pipe, shown = tiny.pipeline(), []

    def callback(pipe, step, timestep, tensors):
        shown.append(pipe.guidance_scale)
        pipe._guidance_scale += 1.0
        return tensors

    arguments = {**LATENT, "guidance_scale": 2.0, "use_dynamic_cfg": dynamic, "num_inference_steps": 3}
    changed = pipe(**tiny.arguments(**arguments, callback_on_step_end=callback)).frames
    assert pipe.guidance_scale == 2.0 + pipe.num_timesteps == 5.0
    plain = pipe(**tiny.arguments(**arguments)).frames
    assert pipe.guidance_scale == 2.0 and not torch.equal(changed, plain)
    assert shown == [2.0, 3.0, 4.0] or dynamic and len(set(shown)) == 3


def test_fused_projections_are_told_by_the_names(tiny):
    pipe = tiny.pipeline()
    plain = pipe(**tiny.arguments(**LATENT)).frames
    names = {name: type(one).__name__ for name, one in pipe.transformer.attn_processors.items()}
    pipe.fuse_qkv_projections()
    processors = pipe.transformer.attn_processors
    assert all(type(one).__name__.startswith("Fused") for one in processors.values())
    assert len(pipe.transformer.original_attn_processors) == len(processors)
    fused = pipe(**tiny.arguments(**LATENT, id_pool=True)).frames
    pipe.unfuse_qkv_projections()
    assert {name: type(one).__name__ for name, one in pipe.transformer.attn_processors.items()} == names
    torch.testing.assert_close(
        pipe(**tiny.arguments(**LATENT, id_pool=True)).frames, fused, atol=1e-4, rtol=1e-4
    )
    assert torch.equal(pipe(**tiny.arguments(**LATENT)).frames, plain)


# --- a model --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["transformer", "branch"])
@pytest.mark.parametrize("sharded", [False, True])
def test_pickled_weights(tiny, tmp_path, name, sharded):
    """Without safetensors `use_safetensors=None` takes the pickles; False always does, True never."""
    model = tiny.make(name)
    options = {"max_shard_size": "200KB"} if sharded else {}
    model.save_pretrained(tmp_path, safe_serialization=False, **options)
    assert list(tmp_path.glob("*.bin")) and not list(tmp_path.glob("*.safetensors"))
    for choice in ({}, {"use_safetensors": None}, {"use_safetensors": False}):
        again = type(model).from_pretrained(tmp_path, **choice)
        assert all(torch.equal(one, again.state_dict()[key]) for key, one in model.state_dict().items())
    with pytest.raises(OSError):
        type(model).from_pretrained(tmp_path, use_safetensors=True)


def test_pickled_pipeline(tiny, tmp_path):
    pipe = tiny.pipeline(text=True)
    pipe.save_pretrained(tmp_path, safe_serialization=False)
    again = VideoPainterPipeline.from_pretrained(tmp_path)
    again.set_progress_bar_config(disable=True)
    assert torch.equal(again(**tiny.arguments(**LATENT)).frames, pipe(**tiny.arguments(**LATENT)).frames)


def test_safetensors_go_before_pickles(tiny, tmp_path):
    tiny.make("branch").save_pretrained(tmp_path)
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"no weights")
    VideoPainterBranchModel.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["transformer", "branch"])
def test_weights_that_are_not_there_are_told_in_diffusers_words(tiny, tmp_path, name):
    """Of a folder with a variant only, and of one with none."""
    network = tiny.make(name)
    network.save_pretrained(tmp_path, variant="fp16")
    assert type(network).from_pretrained(tmp_path, variant="fp16").config.num_layers
    with pytest.raises(
        OSError, match=r"^Error no file named diffusion_pytorch_model.bin found in directory .*, nor "
    ):
        type(network).from_pretrained(tmp_path)


def test_rotary_tables_of_16_bits(tiny):
    """Layerwise casting casts all that a network is given."""
    transformer, inputs = tiny.make("transformer"), tiny.model_inputs().base
    with torch.no_grad():
        expected = transformer(**inputs).sample
        rotary = tuple(one.bfloat16() for one in inputs["image_rotary_emb"])
        found = transformer(**{**inputs, "image_rotary_emb": rotary}).sample
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0.05)  # bfloat16 has 8 bits
    transformer.bfloat16().enable_layerwise_casting(torch.float8_e4m3fn, torch.bfloat16)
    cast = {key: tuple(o.bfloat16() for o in one) if isinstance(one, tuple) else one.bfloat16()
            if one.is_floating_point() else one for key, one in inputs.items()}  # fmt: skip
    with torch.no_grad():
        assert transformer(**cast).sample.isfinite().all()


def test_the_published_arguments_of_the_networks(tiny, base_folder):
    transformer = VideoPainterTransformer3DModel.from_pretrained(
        base_folder, subfolder="transformer", id_pool_resample_learnable=True
    )
    heads = {name: transformer.config[name] for name in ("attention_head_dim", "num_attention_heads")}
    branch = VideoPainterBranchModel.from_transformer(
        transformer=transformer, num_layers=1, **heads, load_weights_from_transformer=True
    )
    plain = VideoPainterBranchModel.from_transformer(transformer, num_layers=1)
    taken = ("patch_embed.proj", "time_embedding", "transformer_blocks", "branch_blocks")
    for name, one in branch.state_dict().items():
        assert torch.equal(one, plain.state_dict()[name]) or not name.startswith(taken), name
    fresh = VideoPainterBranchModel.from_transformer(transformer, 1, load_weights_from_transformer=False)
    first = "transformer_blocks.0.attn1.to_q.weight"
    assert not torch.equal(fresh.state_dict()[first], plain.state_dict()[first])
    assert not any(one.any() for layer in fresh.branch_blocks for one in layer.parameters())
    for name in heads:
        with pytest.raises(ValueError, match=f"`{name}` has to be the transformer's"):
            VideoPainterBranchModel.from_transformer(transformer, **{name: heads[name] + 1})


# --- the published words of a call ----------------------------------------------------------------------------


def test_the_published_words_of_a_call(tiny):
    pipe = tiny.pipeline()
    for published, ours in (
        ({"num_frames": 9, "stride": 4}, {"window": 9, "overlap": 5}),
        ({"stride": 8}, {"overlap": 1}),
        ({"num_frames": 9, "stride": 9}, {"window": 9, "overlap": 1}),
        ({"num_frames": 9, "stride": 9, "match_reference": True}, {"overlap": 0, "match_reference": True}),
        ({"id_pool_resample_learnable": True}, {"id_pool": True}),
    ):
        frames = [pipe(**tiny.arguments(frames=18, **LATENT, **words)).frames for words in (published, ours)]
        assert torch.equal(*frames), published
    for words, said in (
        ({"num_frames": 9, "window": 5}, "`window` is 5, but `num_frames` means 9"),
        ({"stride": 8, "overlap": 5}, "`overlap` is 5, but `stride` means 1"),
    ):
        with pytest.raises(ValueError, match=said):
            pipe(**tiny.arguments(**words))


def test_given_latents_of_the_masked_video(tiny):
    pipe, seen = tiny.pipeline(), []

    def callback(pipe, step, timestep, tensors):
        seen.append(tensors["masked_video_latents"])
        return {}

    watch = {"callback_on_step_end": callback, "callback_on_step_end_tensor_inputs": ["masked_video_latents"]}
    one = {**LATENT, "num_inference_steps": 1}
    plain = pipe(**tiny.arguments(**one, **watch)).frames
    assert torch.equal(pipe(**tiny.arguments(**one, masked_video_latents=seen[0])).frames, plain)
    assert torch.equal(pipe(**tiny.arguments(**one, masked_video_latents=[seen[0]])).frames, plain)
    assert not torch.equal(pipe(**tiny.arguments(**one, masked_video_latents=seen[0] * 2)).frames, plain)
    with pytest.raises(ValueError, match="`masked_video_latents` of a window have to be"):
        pipe(**tiny.arguments(masked_video_latents=seen[0][:, :1]))


def test_the_reference_resizes_masks_as_pictures():
    """Its mask processor: Lanczos in grey levels, 1 from a half on."""
    masks = np.zeros((2, 48, 60), bool)
    masks[:, 10:31, 20:45], masks[0, :, 3] = True, True
    expected = []
    for mask in masks:
        grey = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).convert("RGB")
        grey = grey.resize((30, 32), Image.Resampling.LANCZOS).convert("L")
        expected.append(np.asarray(grey) / 255 >= 0.5)
    given = MaskInput(masks, 2)
    found = given.window(range(2), 32, 30, as_pictures=True)
    assert found.shape == (1, 1, 2, 32, 30) and np.array_equal(found[0, 0].numpy(), np.stack(expected))
    assert given.window(range(2), 32, 30)[0, 0, 0, :, 1].all() and not found[0, 0, 0, 0, 1]


# --- caches and adapters --------------------------------------------------------------------------------------


def caches(pipe):
    def now():
        return pipe.current_timestep

    attention = {"spatial_attention_block_skip_range": 2, "current_timestep_callback": now}
    always = {"spatial_attention_timestep_skip_range": (-1, 1000)}
    faster = {**attention, **always, "attention_weight_callback": lambda _: 0.5, "tensor_format": "BFCHW"}
    return {
        "first block": hooks.FirstBlockCacheConfig(threshold=0.5),
        "broadcast": hooks.PyramidAttentionBroadcastConfig(
            **attention, **always, spatial_attention_block_identifiers=["transformer_blocks"]
        ),
        "mag": hooks.MagCacheConfig(threshold=0.3, num_inference_steps=4, mag_ratios=torch.ones(4)),
        "taylor": hooks.TaylorSeerCacheConfig(
            cache_interval=2,
            disable_cache_before_step=1,
            cache_identifiers=[r"transformer_blocks\.\d+\.attn1"],
        ),
        "refused faster": hooks.FasterCacheConfig(**faster),
        "refused distilled": hooks.FasterCacheConfig(**faster, is_guidance_distilled=True),
        "refused sea": hooks.SeaCacheConfig(),
        "refused text": hooks.TextKVCacheConfig(),
        "empty taylor": hooks.TaylorSeerCacheConfig(cache_interval=2),
    }


@pytest.mark.parametrize("name", ["first block", "broadcast", "mag", "taylor"])
def test_caches_that_work(tiny, name):
    """They change the result a little, and nothing is left of them when they are off."""
    pipe = tiny.pipeline()
    arguments = {**LATENT, "num_inference_steps": 4}
    plain = pipe(**tiny.arguments(**arguments)).frames
    pipe.transformer.enable_cache(caches(pipe)[name])
    assert pipe.transformer.is_cache_enabled
    cached = pipe(**tiny.arguments(**arguments)).frames
    assert cached.isfinite().all() and not torch.equal(cached, plain)
    pipe.transformer.disable_cache()
    assert torch.equal(pipe(**tiny.arguments(**arguments)).frames, plain)


@pytest.mark.parametrize(
    "name", ["refused faster", "refused distilled", "refused sea", "refused text", "empty taylor"]
)
def test_caches_that_are_refused(tiny, name):
    """At once, in one sentence, and without a trace."""
    pipe = tiny.pipeline()
    with pytest.raises(ValueError, match="VideoPainter's transformer") as error:
        pipe.transformer.enable_cache(caches(pipe)[name])
    assert str(error.value).count(". ") == 0 and not pipe.transformer.is_cache_enabled
    pipe.transformer.enable_cache(caches(pipe)["first block"])
    pipe.transformer.disable_cache()
    assert torch.equal(
        pipe(**tiny.arguments(**LATENT)).frames, tiny.pipeline()(**tiny.arguments(**LATENT)).frames
    )


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUDA error")])
def test_what_stops_an_adapter_is_said_as_it_is(tiny, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(CogVideoXImageToVideoPipeline, "load_lora_weights", fail)
    with pytest.raises(type(error)) as raised:
        tiny.pipeline().load_lora_weights({})
    assert raised.value is error


def test_an_adapter_of_another_width(tiny):
    layer = "transformer.transformer_blocks.0.attn1.to_q"
    tensors = {f"{layer}.lora_A.weight": torch.zeros(4, 32), f"{layer}.lora_B.weight": torch.zeros(64, 4)}
    with pytest.raises(ValueError, match="does not fit VideoPainter's transformer: .*size mismatch"):
        tiny.pipeline().load_lora_weights(tensors)


def test_the_words_are_in_the_signature():
    parameters = inspect.signature(VideoPainterPipeline.__call__).parameters
    assert {"num_frames", "stride", "id_pool_resample_learnable", "masked_video_latents"} <= set(parameters)
