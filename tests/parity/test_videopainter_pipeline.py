"""Every stage of the whole pipeline against the reference implementation, with the random draws of its seed.

Limits, times the peak: latents of pictures 5e-5, denoising 1e-4, decoded video 2e-4; frames 1e-3 of 0..1. Each is
fifteen to fifty times the float32 error of the reference itself. Masks and numbers of frames are exact.

Each case runs twice: with predictions of all tokens, and, as calls do it, only of those that are used; then the rest of
the prediction is not compared, but all that is made of it.
"""

from dataclasses import replace

import golden
import numpy as np
import pytest
import torch
import vp

from videopainter.diffusion import VideoPainterPipeline

CALL = {
    "height", "width", "strength", "max_sequence_length", "num_inference_steps", "guidance_scale",
    "use_dynamic_cfg", "replace_gt", "mask_add", "mask_background", "add_first", "wo_text", "conditioning_scale",
    "prev_clip_weight", "eta",
}  # fmt: skip
OTHER_CALL = {"num_frames", "stride", "id_pool_resample_learnable"}
DESCRIBING = {
    "component", "profile", "id_pool_resample_learnable", "call", "frames", "generator_seed", "vae_tiling",
    "workaround_no_mask_add", "windows", "timesteps", "guidance", "guidance_all_windows", "draws", "lora",
    "hidden_list_bytes_per_step",
}  # fmt: skip


class Recording(VideoPainterPipeline):
    """Keeps what passes between the stages."""

    everywhere = True

    def denoise_window(self, window, *args, **kwargs):
        if self.everywhere:
            window = replace(window, predicted=None, sampled=None)
        self.windows.append(window)
        self.steps.append([])
        self.noise_pred.append([])
        return super().denoise_window(window, *args, **kwargs)

    def decode_latents(self, latents, decoder=None):
        frames = super().decode_latents(latents, decoder)
        self.merged.append(latents)
        self.decoded.append(frames)
        return frames


def run(path, case, tensors, everywhere):
    options = case["options"]
    vp.understood(options, DESCRIBING, path.stem)
    call = dict(options["call"])
    vp.understood(call, CALL | OTHER_CALL, f"{path.stem}: call")
    profile, seeds = options["profile"], case["weights"]
    pipe = Recording(
        tokenizer=None,
        text_encoder=None,
        vae=vp.model("vae", profile, seeds),
        transformer=vp.model("transformer", profile, seeds),
        scheduler=vp.scheduler(profile),
        branch=vp.model("branch", profile, seeds),
    )
    pipe.set_progress_bar_config(disable=True)
    pipe.everywhere = everywhere
    if options["vae_tiling"]:
        tiling = options["vae_tiling"]
        pipe.vae.enable_tiling(**(tiling if isinstance(tiling, dict) else {}))
    if options["lora"]:
        pipe.load_lora_weights(vp.lora_weights(case, seeds), adapter_name="test_1")
    pipe.windows, pipe.steps, pipe.noise_pred, pipe.merged, pipe.decoded = [], [], [], [], []
    pipe.transformer.register_forward_hook(lambda *args: pipe.noise_pred[-1].append(args[-1][0]))

    guidance = []

    def record(pipe, step, timestep, tensors):
        pipe.steps[-1].append(tensors["latents"])
        guidance.append(pipe.guidance_scale)

    resample = call.pop("id_pool_resample_learnable", False)
    assert resample == options["id_pool_resample_learnable"]
    length, stride = call.pop("num_frames"), call.pop("stride")
    video = tensors["in.video"].numpy()
    frames = pipe(
        video=video,
        masks=tensors["in.masks"].numpy(),
        image=video[0],
        first_frame_gt=False,
        prompt_embeds=tensors["in.prompt_embeds"],
        negative_prompt_embeds=tensors["in.negative_prompt_embeds"],
        generator=torch.Generator().manual_seed(options["generator_seed"]),
        window=length,
        overlap=length - stride,
        id_pool=resample,
        match_reference=True,
        output_type="np",
        callback_on_step_end=record,
        **call,
    ).frames
    np.testing.assert_allclose(guidance, options["guidance_all_windows"], rtol=1e-9)
    assert pipe.scheduler.timesteps.tolist()[-len(options["timesteps"]) :] == options["timesteps"]
    return pipe, frames


@pytest.mark.parametrize("everywhere", [True, False], ids=["everywhere", "where it is used"])
@pytest.mark.parametrize("path", vp.cases("pipeline"), ids=lambda path: path.stem)
def test_pipeline(path, everywhere):
    case, tensors = golden.read_case(path)
    pipe, frames = run(path, case, tensors, everywhere)
    assert len(pipe.windows) == case["options"]["windows"]
    checked = {name for name in tensors if name.startswith(("in.", "draw."))}

    def close(name, result, limit):
        golden.assert_close(name, result.float(), tensors[f"out.{name}"], limit)
        checked.add(f"out.{name}")

    for number, window in enumerate(pipe.windows):
        for name in ("image_latents", "video_latents", "masked_video_latents"):
            close(f"window{number}.{name}", getattr(window, name), 5e-5)
        close(f"window{number}.mask", window.mask, 0)
        checked.add(f"out.window{number}.noise_pred")
        if everywhere or window.predicted is None:
            close(f"window{number}.noise_pred", torch.stack(pipe.noise_pred[number]), 1e-4)
        close(f"window{number}.step_latents", torch.stack(pipe.steps[number]), 1e-4)
    close("latents", torch.cat(pipe.merged, dim=1), 1e-4)
    decoded = torch.cat([part for part in pipe.decoded if part is not None], dim=2)
    if "out.decoded" in tensors:
        close("decoded", decoded, 2e-4)
    if "out.decoded_sampled" in tensors:
        close("decoded_sampled", decoded[..., 1::4, 2::4], 2e-4)
    assert frames.shape == (len(decoded), decoded.shape[2], *decoded.shape[3:], 3)
    if "out.frames" in tensors:
        assert np.abs(frames - tensors["out.frames"].numpy()).max() <= 1e-3
        checked.add("out.frames")
    assert checked == set(tensors), f"not compared: {sorted(set(tensors) - checked)}"
