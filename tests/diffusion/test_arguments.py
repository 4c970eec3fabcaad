"""Arguments that cannot work: one sentence that quotes the value, before any network runs."""

import dataclasses
import inspect
import re

import numpy as np
import pytest
import torch
from diffusers import CogVideoXDDIMScheduler
from PIL import Image

from videopainter.diffusion import VideoPainterPipeline
from videopainter.diffusion.settings import PipelineSettings

VIDEO = np.zeros((9, 64, 96, 3), np.uint8)
MASKS = np.zeros((9, 64, 96), bool)
TEXT = {"prompt_embeds": None, "negative_prompt_embeds": None, "max_sequence_length": 16}

WRONG = {
    "height": ({"height": 60}, "multiples of 16 but are 60 and 96"),
    "width": ({"width": 100}, "multiples of 16 but are 64 and 100"),
    "size": ({"height": 128, "width": 96}, "only 64 x 96 (height x width), not 128 x 96"),
    "nothing to paint": ({**TEXT, "text": True}, "Give `prompt` or `prompt_embeds`"),
    "prompt twice": ({"prompt": "a dog"}, "`prompt` or `prompt_embeds`, not both"),
    "negative prompt twice": ({"negative_prompt": "a"}, "`negative_prompt` or `negative_prompt_embeds`, not both"),
    "prompt type": ({**TEXT, "prompt": 5}, "`prompt` has to be a string or a list but is <class 'int'>"),
    "no prompts": ({**TEXT, "prompt": [], "text": True}, "`prompt` has no entries"),
    "no text encoder": ({**TEXT, "prompt": "a dog"}, "no text encoder"),
    "no negative text": ({"negative_prompt_embeds": None}, "`negative_prompt_embeds` where"),
    "negative prompts": (
        {**TEXT, "prompt": ["a", "b"], "negative_prompt": ["a", "b", "c"], "text": True},
        "3 negative prompts for 2 prompts",
    ),
    "embeds type": ({"prompt_embeds": [1.0]}, "`prompt_embeds` has to be a tensor [batch, tokens, width] but is"),
    "embeds dimensions": ({"prompt_embeds": torch.zeros(16, 32)}, "but is (16, 32)"),
    "embeds width": ({"prompt_embeds": torch.zeros(1, 16, 31)}, "has to be (1, 16, 32) here but is (1, 16, 31)"),
    "negative rows": (
        {"prompt_embeds": torch.zeros(2, 16, 32)},
        "`negative_prompt_embeds` has to be (2, 16, 32) here but is (1, 16, 32)",
    ),
    "negative rows of text": (
        {**TEXT, "prompt": ["a", "b"], "negative_prompt_embeds": torch.zeros(1, 16, 32), "text": True},
        "`negative_prompt_embeds` has to be (2, 16, 32) here but is (1, 16, 32)",
    ),
    "tokens": (
        {"prompt_embeds": torch.zeros(1, 9, 32), "negative_prompt_embeds": torch.zeros(1, 9, 32)},
        "takes 16 text tokens, not 9",
    ),
    "sequence length": ({**TEXT, "prompt": "a", "max_sequence_length": 226, "text": True}, "16 text tokens, not 226"),
    "tokens of the negative prompt": (
        {"negative_prompt_embeds": None, "negative_prompt": "a", "max_sequence_length": 20, "text": True},
        "have 16 tokens, but the negative prompt gets `max_sequence_length` 20",
    ),
    "videos": ({"video": [VIDEO, VIDEO, VIDEO], "masks": [MASKS] * 3}, "3 videos for 1 prompts"),
    "sets of masks": ({"masks": [MASKS, MASKS]}, "2 sets of masks for 1 prompts"),
    "lengths": ({"video": [VIDEO, VIDEO[:5]]}, "different lengths: [9, 5]"),
    "masks": ({"masks": MASKS[:7]}, "7 masks for 9 frames"),
    "mask values": ({"masks": np.ones((9, 64, 96), np.complex64)}, "not complex64"),
    "no frames": ({"video": [], "masks": []}, "`video` is empty"),
    "video type": ({"video": 5}, "is <class 'int'>"),
    "video dimensions": ({"video": VIDEO[0]}, "4 or 5 dimensions but has 3"),
    "video channels": ({"video": VIDEO[..., :2]}, "3 channels but has 2"),
    "video range": ({"video": VIDEO.astype(np.float32) + 200}, "0..1 but reaches from 200 to 200"),
    "images": ({"image": [Image.new("RGB", (96, 64))] * 2}, "2 images for 1 prompts"),
    "image type": ({"image": "first.png"}, "is <class 'str'>"),
    "number of results": ({"num_videos_per_prompt": 0}, "1 or more but is 0"),
    "generators": ({"generator": [torch.Generator()] * 2}, "2 generators for 1 results"),
    "generators of all results": (
        {"generator": [torch.Generator()], "num_videos_per_prompt": 2},
        "1 generators for 2 results",
    ),
    "output": ({"output_type": "mp4"}, "pil, np, pt or latent but is 'mp4'"),
    "steps": ({"num_inference_steps": 0}, "1 or more but is 0"),
    "strength 0": ({"strength": 0}, "above 0 and at most 1 but is 0"),
    "strength 2": ({"strength": 2.0}, "above 0 and at most 1 but is 2.0"),
    "no step left": ({"strength": 0.1}, "`strength` 0.1 no step is left of 2"),
    "weight": ({"prev_clip_weight": 1.5}, "from 0 to 1 but is 1.5"),
    "scales": ({"conditioning_scale": [1.0, 1.0, 1.0]}, "has 3 values, but the branch has 2 layers"),
    "callback tensors": ({"callback_on_step_end_tensor_inputs": ["latents", "noise"]}, "there is ['noise']"),
    "window": ({"window": 8}, "`window` has to be one more than a multiple of 4 but is 8"),
    "short window": ({"window": 1}, "but is 1"),
    "overlap": ({"overlap": 3}, "(9) but is 3"),
    "no overlap": ({"overlap": 0}, "(9) but is 0"),
    "long overlap": ({"overlap": 9}, "(9) but is 9"),
    "latents": ({"latents": torch.zeros(1, 3, 16, 8, 11)}, "(1, 3, 16, 8, 12) but are (1, 3, 16, 8, 11)"),
    "latents of a batch": (
        {"latents": torch.zeros(1, 3, 16, 8, 12), "num_videos_per_prompt": 2},
        "(2, 3, 16, 8, 12) but are (1, 3, 16, 8, 12)",
    ),
    "number of latents": ({"latents": [torch.zeros(1, 3, 16, 8, 12)] * 2}, "2 tensors for 1 windows"),
    "latents of a later window": (
        {"latents": [torch.zeros(1, 3, 16, 8, 12), torch.zeros(1, 2, 16, 8, 12)], "frames": 17},
        "(1, 3, 16, 8, 12) but are (1, 2, 16, 8, 12)",
    ),
    "reference of a short video": ({"frames": 5, "match_reference": True}, "needs 9 frames or more; it has 5"),
    "reference with a long overlap": ({"match_reference": True, "overlap": 9}, "from 0 to 8 but is 9"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_argument(tiny, monkeypatch, name):
    changes, said = WRONG[name]
    changes = dict(changes)
    pipe = tiny.pipeline(text=changes.pop("text", False))
    ran = []
    for network in (pipe.transformer, pipe.branch):
        network.register_forward_pre_hook(lambda *args: ran.append(1))
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        pipe(**tiny.arguments(**changes))
    assert not ran
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("changes", [
    {"guidance_scale": 1.0, "negative_prompt_embeds": None},
    {"conditioning_scale": [0.5, 1.5]},
    {"add_first": True, "mask_add": False},
    {"wo_text": True},
    {"eta": 0.5},
    {"height": 64, "width": 96},
    {"window": 5},
    {"overlap": 5},
    {"callback_on_step_end_tensor_inputs": []},
    {"image": Image.new("RGB", (300, 200))},
    {"image": torch.zeros(3, 64, 96)},
    {"image": np.zeros((64, 96, 3), np.float32)},
    {"first_frame_gt": True},
    {"replace_gt": False, "mask_background": True},
    {"masks": np.zeros((9, 64, 96), bool)},
    {"masks": np.ones((9, 64, 96), bool)},
], ids=lambda changes: " ".join(f"{k} {type(v).__name__}" for k, v in changes.items()))  # fmt: skip
def test_right_arguments(tiny, changes):
    frames = tiny.pipeline()(**tiny.arguments(output_type="latent", **changes)).frames
    assert frames.shape == (1, 3, 16, 8, 12) and frames.isfinite().all()


OPTIONS = {
    "mask_add": False,
    "add_first": True,
    "conditioning_scale": 0.3,
    "wo_text": True,
    "replace_gt": False,
    "mask_background": True,
    "first_frame_gt": True,
    "id_pool": True,
    "use_dynamic_cfg": False,
    "num_inference_steps": 3,
    "window": 5,
    "image": np.full((64, 96, 3), 200, np.uint8),
    "match_reference": True,
}


@pytest.fixture(scope="module")
def plain(tiny):
    return tiny.pipeline()(**tiny.arguments(output_type="latent")).frames


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_does_something(tiny, plain, name):
    other = tiny.pipeline()(**tiny.arguments(output_type="latent", **{name: OPTIONS[name]})).frames
    assert (other - plain).abs().max() > 1e-3


@pytest.mark.parametrize("option", [{"prev_clip_weight": 0.5}, {"overlap": 5}], ids=str)
def test_every_option_of_several_windows_does_something(tiny, option):
    plain = tiny.pipeline()(**tiny.arguments(frames=17, output_type="latent")).frames
    other = tiny.pipeline()(**tiny.arguments(frames=17, output_type="latent", **option)).frames
    assert (other - plain).abs().max() > 1e-3


def test_eta_reaches_the_scheduler(tiny):
    pipe = tiny.pipeline()
    pipe.scheduler = CogVideoXDDIMScheduler.from_config(pipe.scheduler.config)
    seen = []
    step = pipe.scheduler.step
    pipe.scheduler.step = lambda *args, eta=None, **kwargs: (seen.append(eta), step(*args, **kwargs))[1]
    pipe(**tiny.arguments(output_type="latent", eta=0.5))
    assert seen == [0.5, 0.5]


def test_call_and_stream_have_the_same_defaults():
    """`__call__` writes its arguments out, as diffusers' pipelines do; `stream` takes them as settings."""
    parameters = dict(inspect.signature(VideoPainterPipeline.__call__).parameters)
    for name in ("self", "video", "masks", "return_dict"):
        del parameters[name]
    settings = {field.name: field.default for field in dataclasses.fields(PipelineSettings)}
    published = dict.fromkeys(("num_frames", "stride", "id_pool_resample_learnable"))
    assert {name: parameter.default for name, parameter in parameters.items()} == {**settings, **published}


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PipelineSettings().guidance_scale = 1.0


def test_every_argument_of_the_call_reaches_the_stream(tiny):
    """Written out twice, none may be left behind or go to another's place."""

    class Noting(VideoPainterPipeline):
        def stream(self, video, masks, **arguments):
            self.noted = arguments
            return iter([[["frame"]]])

    published = ("num_frames", "stride", "id_pool_resample_learnable")
    names = (*(field.name for field in dataclasses.fields(PipelineSettings)), *published)
    marks = {name: object() for name in names}
    pipe = tiny.pipeline(kind=Noting)
    pipe("video", "masks", **marks)
    assert pipe.noted == marks
