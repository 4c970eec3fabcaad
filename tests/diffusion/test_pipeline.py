"""What diffusers demands of its own pipelines: signature, batches, outputs, determinism, no side effects."""

import copy
import inspect

import numpy as np
import pytest
import torch
from diffusers import CogVideoXDDIMScheduler

from videopainter.diffusion import VideoPainterPipeline

LATENT = {"output_type": "latent"}


@pytest.fixture
def pipe(tiny):
    return tiny.pipeline()


def near(result, expected, limit=1e-4):
    """As near as float32 in another batch size or order of additions."""
    torch.testing.assert_close(result, expected, rtol=0, atol=limit * expected.abs().max().item())


def differs(one, other):
    return (one - other).abs().max() > 1e-2


# --- signature ------------------------------------------------------------------------------------------------


def test_call_signature():
    parameters = inspect.signature(VideoPainterPipeline.__call__).parameters
    in_diffusers_words = """video masks prompt negative_prompt image prompt_embeds negative_prompt_embeds height width
        num_inference_steps timesteps guidance_scale use_dynamic_cfg num_videos_per_prompt eta generator latents
        output_type callback_on_step_end callback_on_step_end_tensor_inputs return_dict attention_kwargs
        max_sequence_length strength""".split()
    own = """conditioning_scale mask_add replace_gt mask_background add_first first_frame_gt window overlap
        prev_clip_weight id_pool""".split()
    assert set(parameters) >= {*in_diffusers_words, *own}
    required = [name for name, one in parameters.items() if one.default is inspect.Parameter.empty]
    assert required == ["self", "video", "masks"]


def test_stream_takes_the_same_arguments(tiny, pipe):
    stream = pipe.stream(**tiny.arguments(frames=17, **LATENT))
    parts = [next(stream)]
    assert torch.is_grad_enabled()  # between parts the caller's world is as it was
    parts += stream
    frames = pipe(**tiny.arguments(frames=17, **LATENT)).frames
    assert torch.equal(torch.cat(parts, dim=1), frames)
    with pytest.raises(TypeError, match="nonsense"):
        pipe.stream(**tiny.arguments(), nonsense=1)


def test_call_is_documented():
    text = VideoPainterPipeline.__call__.__doc__
    names = [name for name in inspect.signature(VideoPainterPipeline.__call__).parameters if name != "self"]
    assert [name for name in names if name not in text and name != "return_dict"] == []


# --- outputs --------------------------------------------------------------------------------------------------


def test_tuple_is_the_dictionary(tiny, pipe):
    output = pipe(**tiny.arguments(**LATENT))
    (frames,) = pipe(**tiny.arguments(**LATENT), return_dict=False)
    assert torch.equal(output.frames, frames) and torch.equal(output[0], frames)


def test_output_types_agree(tiny, pipe):
    frames = {kind: pipe(**tiny.arguments(output_type=kind)).frames for kind in ("np", "pt", "pil", "latent")}
    array = frames["np"]
    assert array.shape == (1, 9, 64, 96, 3) and array.dtype == np.float32
    assert 0 <= array.min() and array.max() <= 1 and array.std() > 0.1
    assert frames["pt"].shape == (1, 9, 3, 64, 96) and frames["pt"].device.type == "cpu"
    assert np.array_equal(frames["pt"].permute(0, 1, 3, 4, 2).numpy(), array)
    assert len(frames["pil"]) == 1 and len(frames["pil"][0]) == 9 and frames["pil"][0][0].size == (96, 64)
    assert np.array_equal(np.stack([np.asarray(one) for one in frames["pil"][0]]), (array[0] * 255).round())
    assert frames["latent"].shape == (1, 3, 16, 8, 12)
    decoded = pipe.decode_latents(frames["latent"]).detach()
    assert np.allclose(pipe.video_processor.postprocess_video(decoded, "np"), array, atol=1e-5)


def test_default_output_is_pil(tiny, pipe):
    arguments = tiny.arguments()
    del arguments["output_type"]
    assert pipe(**arguments).frames[0][0].size == (96, 64)


# --- batches --------------------------------------------------------------------------------------------------


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


@pytest.mark.parametrize("videos", ["one", "two"])
@pytest.mark.parametrize("id_pool", [False, True])
def test_batch_is_its_single_calls(tiny, pipe, videos, id_pool):
    """Each row is what its prompt, video and generator give alone; over two windows."""
    options = {"frames": 17, **LATENT, "id_pool": id_pool, "prev_clip_weight": 0.5 * id_pool}
    clips = [tiny.clip(17, seed=seed) for seed in ((3, 3) if videos == "one" else (3, 4))]
    # Resampling looks at the batch's rows one by one, but what is kept of a window are the tokens of all rows.
    clips[1][1][:, :, :8] |= videos == "two"
    texts, negatives = tiny.embeds(5, batch=2), tiny.embeds(6, batch=2)
    expected = []
    for row, (video, masks) in enumerate(clips):
        single = tiny.arguments(
            **options,
            prompt_embeds=texts[row : row + 1],
            negative_prompt_embeds=negatives[row : row + 1],
            generator=generators(row)[0],
        )
        expected.append(pipe(**{**single, "video": video, "masks": masks}).frames)
    arguments = tiny.arguments(
        **options, prompt_embeds=texts, negative_prompt_embeds=negatives, generator=generators(0, 1)
    )
    both = clips if videos == "two" else clips[:1]
    arguments["video"] = [video for video, _ in both]
    arguments["masks"] = [masks for _, masks in both]
    result = pipe(**arguments).frames
    assert differs(*expected)
    near(result, torch.cat(expected))


def test_several_videos_for_one_prompt(tiny, pipe):
    single = [pipe(**tiny.arguments(**LATENT, generator=one)).frames for one in generators(0, 1)]
    result = pipe(**tiny.arguments(**LATENT, num_videos_per_prompt=2, generator=generators(0, 1))).frames
    assert result.shape[0] == 2 and differs(*single)
    near(result, torch.cat(single))


def test_several_results_for_several_prompts_and_videos(tiny, pipe):
    """Rows of a prompt, and of its video, stand together."""
    clips = [tiny.clip(seed=3), tiny.clip(seed=4)]
    clips[1][1][:, :8] = True
    texts = {"prompt_embeds": tiny.embeds(5, batch=2), "negative_prompt_embeds": tiny.embeds(6, batch=2)}
    arguments = tiny.arguments(**LATENT, num_videos_per_prompt=2, generator=generators(0, 1, 2, 3), **texts)
    arguments["video"], arguments["masks"] = ([clip[part] for clip in clips] for part in (0, 1))
    result = pipe(**arguments).frames
    for row in (1, 2):
        own = {name: tensor[row // 2 :][:1] for name, tensor in texts.items()}
        single = tiny.arguments(**LATENT, **own, generator=generators(row)[0])
        single["video"], single["masks"] = clips[row // 2]
        near(result[row : row + 1], pipe(**single).frames)


def test_prompts_are_the_embeddings_of_the_text_encoder(tiny):
    pipe = tiny.pipeline(text=True)
    words = {"prompt_embeds": None, "negative_prompt_embeds": None, "max_sequence_length": 16, **LATENT}
    prompts = ["a red car on the road", "a dog"]
    result = pipe(**tiny.arguments(**words, prompt=prompts, generator=generators(0, 1))).frames
    single = pipe(**tiny.arguments(**words, prompt=prompts[1], generator=generators(1)[0])).frames
    near(result[1:], single)
    positive, negative = pipe.encode_prompt(prompts[1], "", max_sequence_length=16)
    given = {"prompt_embeds": positive.detach(), "negative_prompt_embeds": negative.detach()}
    near(pipe(**tiny.arguments(**LATENT, **given, generator=generators(1)[0])).frames, single)
    bad = pipe(
        **tiny.arguments(**words, prompt=prompts[1], negative_prompt="a bad cat", generator=generators(1)[0])
    )
    assert differs(bad.frames, single)
    assert differs(result[:1], result[1:])


def test_images_for_each_prompt(tiny, pipe):
    """A list of first frames: each row begins with its own."""
    video, _ = tiny.clip(seed=8)
    options = {**LATENT, "prompt_embeds": tiny.embeds(5, 2), "negative_prompt_embeds": tiny.embeds(6, 2)}
    images = [video[0], video[1]]
    result = pipe(**tiny.arguments(**options, image=images, generator=generators(0, 0))).frames
    for row, image in enumerate(images):
        texts = {name: options[name][row : row + 1] for name in ("prompt_embeds", "negative_prompt_embeds")}
        single = pipe(**tiny.arguments(**LATENT, **texts, image=image, generator=generators(0)[0])).frames
        near(result[row : row + 1], single)


# --- guidance, strength, noise --------------------------------------------------------------------------------


@pytest.mark.parametrize("scale, rows", [(1.0, 1), (0.0, 1), (6.0, 2)])
def test_guidance_doubles_the_batch_only_where_it_is_on(tiny, pipe, scale, rows):
    seen = []
    for network in (pipe.transformer, pipe.branch):
        network.register_forward_hook(
            lambda module, args, kwargs, output: seen.append(len(kwargs["hidden_states"])), with_kwargs=True
        )
    arguments = tiny.arguments(**LATENT, guidance_scale=scale, use_dynamic_cfg=False)
    if rows == 1:
        arguments["negative_prompt_embeds"] = None
    pipe(**arguments)
    assert seen == 4 * [rows]


def test_guidance_is_used(tiny, pipe):
    results = [
        pipe(**tiny.arguments(**LATENT, guidance_scale=scale, use_dynamic_cfg=dynamic)).frames
        for scale, dynamic in ((1.0, False), (3.0, False), (6.0, False), (6.0, True))
    ]
    assert all(differs(one, other) for i, one in enumerate(results) for other in results[:i])


def test_dynamic_guidance_of_one_call_is_not_the_next_one_s(tiny, pipe):
    scales = []
    options = {"use_dynamic_cfg": True, "num_inference_steps": 3, **LATENT}
    options["callback_on_step_end"] = lambda pipe, *args: scales.append(pipe.guidance_scale)
    for _ in range(2):
        pipe(**tiny.arguments(**options))
    assert scales[:3] == scales[3:] and len(set(scales)) > 1


def test_strength(tiny, pipe):
    """Below 1 fewer steps are made, from noise mixed with the video."""
    steps = []
    options = {
        **LATENT,
        "num_inference_steps": 4,
        "callback_on_step_end": lambda pipe, i, *_: steps.append(i),
    }
    full = pipe(**tiny.arguments(**options)).frames
    assert steps == [0, 1, 2, 3] and pipe.num_timesteps == 4
    steps.clear()
    half = pipe(**tiny.arguments(**options, strength=0.5)).frames
    assert steps == [0, 1] and pipe.num_timesteps == 2 and differs(half, full)
    with pytest.raises(ValueError, match=r"`strength` 0\.1 no step is left of 4"):
        pipe(**tiny.arguments(**options, strength=0.1))


def test_weak_strength_stays_with_the_video(tiny, pipe):
    """The fewer steps, the nearer to the latents of the masked video, where nothing is put back."""
    options = {**LATENT, "num_inference_steps": 20, "replace_gt": False, "guidance_scale": 1.0}
    video, masks = tiny.clip()
    pictures = torch.from_numpy(video * ~masks[..., None]).permute(3, 0, 1, 2)[None] / 127.5 - 1
    pictures = pictures * torch.from_numpy(~masks)
    with torch.no_grad():
        known = pipe.vae.encode(pictures).latent_dist.mode().transpose(1, 2) * pipe.vae.config.scaling_factor
    far = [
        (pipe(**tiny.arguments(**options, strength=strength)).frames - known).abs().mean().item()
        for strength in (0.05, 1.0)
    ]
    assert far[0] < 0.5 * far[1]


def noise(seed, frames=3):
    return torch.randn(1, frames, 16, 8, 12, generator=torch.Generator().manual_seed(seed))


def test_given_latents_are_the_noise(tiny, pipe):
    """One tensor serves every window, a list has one for each."""
    options = {"frames": 17, **LATENT}
    drawn = pipe(**tiny.arguments(**options)).frames
    one = pipe(**tiny.arguments(**options, latents=noise(1))).frames
    same = pipe(**tiny.arguments(**options, latents=[noise(1), noise(1)])).frames
    other = pipe(**tiny.arguments(**options, latents=[noise(1), noise(2)])).frames
    assert differs(one, drawn) and torch.equal(one, same)
    assert torch.equal(one[:, :2], other[:, :2]) and differs(one[:, 3:], other[:, 3:])


def test_noise_of_the_call_is_used_as_it_is(tiny, pipe):
    kept = []
    noisy = noise(1)
    pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: kept.append(kwargs["hidden_states"][:1, :, :16].clone()),
        with_kwargs=True,
    )
    pipe(**tiny.arguments(**LATENT, latents=noisy, num_inference_steps=1))
    assert torch.equal(kept[0], noisy)


# --- determinism and side effects -----------------------------------------------------------------------------


def test_same_seed_same_frames(tiny, pipe):
    first, second = (pipe(**tiny.arguments(**LATENT)).frames for _ in range(2))
    fresh = tiny.pipeline()(**tiny.arguments(**LATENT)).frames
    other = pipe(**tiny.arguments(**LATENT, generator=generators(1)[0])).frames
    assert torch.equal(first, second) and torch.equal(first, fresh) and differs(first, other)


def test_calls_do_not_meet(tiny, pipe):
    """Two streams of one pipeline, taken in turns, give what each gives alone."""
    kinds = [
        {"id_pool": True, "prev_clip_weight": 0.5},
        {"use_dynamic_cfg": False, "guidance_scale": 3.0, "num_inference_steps": 3},
    ]
    calls = [tiny.arguments(frames=25, **LATENT, **kind) for kind in kinds]
    alone = [tiny.pipeline()(**tiny.arguments(frames=25, **LATENT, **kind)).frames for kind in kinds]
    parts = zip(*(pipe.stream(**call) for call in calls), strict=True)
    for together, expected in zip(zip(*parts), alone):
        assert torch.equal(torch.cat(together, dim=1), expected)


def test_without_generator_the_global_one_is_used(tiny, pipe):
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        results.append(pipe(**tiny.arguments(**LATENT, generator=None)).frames)
    assert torch.equal(*results[:2]) and differs(results[0], results[2])


def test_nothing_is_changed(tiny):
    """Neither components, nor the caller's arguments, nor global state."""
    pipe = tiny.pipeline(text=True)
    arguments = tiny.arguments(
        frames=17,
        latents=[noise(1), noise(2)],
        image=tiny.clip(seed=8)[0][0],
        conditioning_scale=[0.5, 1.0],
        attention_kwargs={"scale": 1.0},
        id_pool=True,
        prev_clip_weight=0.5,
        callback_on_step_end=lambda *args: {},
        callback_on_step_end_tensor_inputs=["latents"],
    )
    kept = {name: copy.deepcopy(value) for name, value in arguments.items() if name != "generator"}
    networks = {name: one for name, one in pipe.components.items() if isinstance(one, torch.nn.Module)}
    states = {name: copy.deepcopy(network.state_dict()) for name, network in networks.items()}
    configs = {name: dict(one.config) for name, one in pipe.components.items() if hasattr(one, "config")
               and name != "text_encoder"}  # fmt: skip
    flags = {name: [module.training for module in network.modules()] for name, network in networks.items()}
    rng, numpy_rng = torch.get_rng_state(), np.random.get_state()[1].copy()

    pipe(**arguments)

    assert torch.equal(torch.get_rng_state(), rng) and np.array_equal(np.random.get_state()[1], numpy_rng)
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32
    for name, value in kept.items():
        assert equal(arguments[name], value), name
    for name, network in networks.items():
        assert [module.training for module in network.modules()] == flags[name]
        assert all(torch.equal(tensor, states[name][key]) for key, tensor in network.state_dict().items())
    assert {name: dict(pipe.components[name].config) for name in configs} == configs


def equal(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, other)
    if isinstance(one, list):
        return len(one) == len(other) and all(equal(*pair) for pair in zip(one, other))
    return one == other


def test_components_can_be_shared(tiny):
    """Two pipelines of the same stock components; those stay what they are."""
    base, ddim = tiny.make("base"), CogVideoXDDIMScheduler.from_config(tiny.config["scheduler"])
    config = dict(ddim.config)
    parts = {"transformer": base, "scheduler": ddim, "vae": tiny.make("vae"), "branch": tiny.make("branch")}
    first, second = tiny.pipeline(**parts), tiny.pipeline(**parts)
    result = first(**tiny.arguments(**LATENT)).frames
    assert torch.equal(second(**tiny.arguments(**LATENT)).frames, result)
    assert torch.equal(tiny.pipeline()(**tiny.arguments(**LATENT)).frames, result)
    assert type(base).__name__ == "CogVideoXTransformer3DModel" and dict(ddim.config) == config
    third = VideoPainterPipeline(**first.components)
    third.set_progress_bar_config(disable=True)
    assert third.transformer is first.transformer and third.scheduler is first.scheduler
    assert torch.equal(third(**tiny.arguments(**LATENT)).frames, result)


def test_another_scheduler_can_be_set(tiny, pipe):
    expected = pipe(**tiny.arguments(**LATENT)).frames
    pipe.scheduler = CogVideoXDDIMScheduler.from_config(pipe.scheduler.config)
    result = pipe(**tiny.arguments(**LATENT)).frames
    assert result.isfinite().all() and differs(result, expected)


# --- switches of diffusers ------------------------------------------------------------------------------------


def test_vae_slicing(tiny, pipe):
    options = {"num_videos_per_prompt": 2, "frames": 13, "output_type": "pt"}
    plain = pipe(**tiny.arguments(**options, generator=generators(0, 1))).frames
    pipe.vae.enable_slicing()
    near(pipe(**tiny.arguments(**options, generator=generators(0, 1))).frames, plain)


def test_vae_tiling(tiny, pipe):
    """Tiles as large as the frame change nothing; smaller ones, other pixels."""
    plain = pipe(**tiny.arguments(output_type="pt")).frames
    pipe.vae.enable_tiling(tile_sample_min_height=64, tile_sample_min_width=96)
    assert torch.equal(pipe(**tiny.arguments(output_type="pt")).frames, plain)
    pipe.vae.enable_tiling(tile_sample_min_height=48, tile_sample_min_width=40)
    tiled = pipe(**tiny.arguments(output_type="pt")).frames
    assert tiled.shape == plain.shape and 0 < (tiled - plain).abs().mean() < 0.3
    pipe.vae.disable_tiling()
    assert torch.equal(pipe(**tiny.arguments(output_type="pt")).frames, plain)


def test_fused_projections(tiny, pipe):
    options = {"frames": 17, **LATENT, "id_pool": True, "prev_clip_weight": 0.5}
    plain = pipe(**tiny.arguments(**options)).frames
    pipe.fuse_qkv_projections()
    near(pipe(**tiny.arguments(**options)).frames, plain)
    pipe.unfuse_qkv_projections()
    assert torch.equal(pipe(**tiny.arguments(**options)).frames, plain)


@pytest.mark.parametrize("disable", [False, True])
def test_progress_bar(tiny, pipe, capsys, disable):
    pipe.set_progress_bar_config(disable=disable)
    pipe(**tiny.arguments(frames=17, **LATENT))
    shown = capsys.readouterr().err
    assert shown == "" if disable else "4/4" in shown


def test_bfloat16(tiny, pipe, monkeypatch):
    """Everything runs in it, and the result is that of float32 but for rounding."""
    draw = torch.randn

    def rounded(*size, dtype=None, **more):
        """Both get the same noise: not every version of PyTorch draws for bfloat16 what it draws for float32."""
        return draw(*size, **more).to(dtype)

    monkeypatch.setattr(torch, "randn", rounded)
    expected = pipe(**tiny.arguments(output_type="pt")).frames
    assert pipe.to(torch.bfloat16) is pipe
    assert {network.dtype for network in (pipe.transformer, pipe.branch, pipe.vae)} == {torch.bfloat16}
    texts = {
        name: tiny.embeds(seed).bfloat16()
        for name, seed in (("prompt_embeds", 1), ("negative_prompt_embeds", 2))
    }
    for kind in (torch.float32, torch.bfloat16):
        given = {name: tensor.to(kind) for name, tensor in texts.items()}
        latents = pipe(**tiny.arguments(**LATENT, **given)).frames
        assert latents.dtype == torch.bfloat16 and latents.isfinite().all()
    frames = pipe(**tiny.arguments(output_type="pt", **texts)).frames
    assert (frames.float() - expected).abs().mean() < 0.1
    pipe.to(dtype=torch.float32)
    assert pipe.transformer.dtype == torch.float32
