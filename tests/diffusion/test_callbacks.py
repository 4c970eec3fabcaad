"""Callbacks: what they see, what they change, and how they stop a call."""

import pytest
import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback

from videopainter.diffusion import VideoPainterPipeline

LATENT = {"output_type": "latent"}


@pytest.fixture
def pipe(tiny):
    return tiny.pipeline()


def test_callback_sees_every_step_and_tensor(tiny, pipe):
    seen = []

    def callback(pipe, step, timestep, tensors):
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        seen.append(
            (pipe.current_window, pipe.num_windows, step, int(timestep), int(pipe.current_timestep), shapes)
        )
        return {}

    pipe(**tiny.arguments(frames=17, **LATENT, callback_on_step_end=callback,
                          callback_on_step_end_tensor_inputs=pipe._callback_tensor_inputs))  # fmt: skip
    times = pipe.scheduler.timesteps.tolist()
    shapes = {
        "latents": (1, 3, 16, 8, 12),
        "prompt_embeds": (2, 16, 32),
        "negative_prompt_embeds": (1, 16, 32),
        "mask": (1, 3, 1, 8, 12),
        "masked_video_latents": (1, 3, 16, 8, 12),
    }
    assert seen == [
        (window, 2, step, times[step], times[step], shapes) for window in (0, 1) for step in (0, 1)
    ]


@pytest.mark.parametrize("name", VideoPainterPipeline._callback_tensor_inputs)
def test_what_a_callback_returns_takes_effect(tiny, pipe, name):
    """In the steps after it, and not in the caller's tensors."""

    def callback(pipe, step, timestep, tensors):
        assert list(tensors) == [name]
        return {name: tensors[name].flip(-1)} if step == 0 else {}

    arguments = tiny.arguments(**LATENT)
    kept = {key: value.clone() for key, value in arguments.items() if isinstance(value, torch.Tensor)}
    plain = pipe(**arguments).frames
    call = {"callback_on_step_end": callback, "callback_on_step_end_tensor_inputs": [name]}
    result = pipe(**{**arguments, "generator": torch.Generator().manual_seed(0)}, **call).frames
    assert (result - plain).abs().max() > 1e-3
    assert all(torch.equal(arguments[key], tensor) for key, tensor in kept.items())


def test_the_last_latents_of_a_callback_are_the_result(tiny, pipe):
    def callback(pipe, step, timestep, tensors):
        return {"latents": torch.full_like(tensors["latents"], 0.25)} if step == 1 else None

    assert (pipe(**tiny.arguments(**LATENT, callback_on_step_end=callback)).frames == 0.25).all()


class ZeroAtTheEnd(PipelineCallback):
    """A callback of diffusers' kind, that says itself which tensors it needs."""

    @property
    def tensor_inputs(self):
        return ["latents"]

    def callback_fn(self, pipeline, step_index, timestep, callback_kwargs):
        if step_index == pipeline.num_timesteps - 1:
            callback_kwargs["latents"] = callback_kwargs["latents"] * 0
        return callback_kwargs


@pytest.mark.parametrize("several", [False, True])
def test_callback_classes(tiny, pipe, several):
    callback = ZeroAtTheEnd(cutoff_step_ratio=None, cutoff_step_index=1)
    if several:
        callback = MultiPipelineCallbacks([callback, callback])
    assert not pipe(**tiny.arguments(**LATENT, callback_on_step_end=callback)).frames.any()


@pytest.mark.parametrize("overlap, window, frames", [(1, 0, 9), (5, 0, 9), (5, 1, 13), (5, 2, 17)])
@pytest.mark.parametrize("output_type", ["np", "latent"])
def test_interrupt(tiny, pipe, overlap, window, frames, output_type):
    """The output ends with the window in work, however many latent frames were made until then."""

    def callback(pipe, step, timestep, tensors):
        pipe._interrupt = pipe.current_window == window
        return tensors

    arguments = tiny.arguments(frames=18, overlap=overlap, output_type=output_type, num_inference_steps=1)
    result = pipe(**arguments, callback_on_step_end=callback).frames
    assert result.shape[1] == (frames if output_type == "np" else (frames - 1) // 4 + 1)


def test_the_call_after_an_interrupted_one_is_whole(tiny, pipe):
    def callback(pipe, *args):
        pipe._interrupt = True

    cut = pipe(**tiny.arguments(frames=17, **LATENT, callback_on_step_end=callback)).frames
    whole = pipe(**tiny.arguments(frames=17, **LATENT)).frames
    assert cut.shape[1] == 3 and whole.shape[1] == 5
    assert torch.equal(whole, tiny.pipeline()(**tiny.arguments(frames=17, **LATENT)).frames)


def test_an_error_of_a_callback_leaves_no_traces(tiny, pipe):
    def callback(*args):
        raise KeyError("stop")

    expected = pipe(**tiny.arguments(**LATENT)).frames
    with pytest.raises(KeyError, match="stop"):
        pipe(**tiny.arguments(**LATENT, callback_on_step_end=callback))
    assert torch.is_grad_enabled()
    assert torch.equal(pipe(**tiny.arguments(**LATENT)).frames, expected)
