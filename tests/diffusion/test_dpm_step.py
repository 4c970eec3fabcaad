"""Our step of the DPM scheduler, for draws on the host, against diffusers' own."""

import pytest
import torch
from diffusers import CogVideoXDPMScheduler

from videopainter.diffusion.denoise import dpm_step


@pytest.mark.parametrize("prediction_type", ["v_prediction", "epsilon", "sample"])
def test_it_is_the_schedulers_step(prediction_type):
    scheduler = CogVideoXDPMScheduler(prediction_type=prediction_type, timestep_spacing="trailing")
    scheduler.set_timesteps(4)
    timesteps = scheduler.timesteps
    results = []
    for step in (scheduler.step, None):
        generator = torch.Generator().manual_seed(0)
        latents, original = torch.randn(1, 2, 4, 3, 3, generator=generator), None
        for index, timestep in enumerate(timesteps):
            noise = torch.sin(latents * 3 + index)
            before = timesteps[index - 1] if index else None
            given = (noise, original, timestep, before, latents)
            if step is None:
                latents, original = dpm_step(scheduler, *given, generator)
            else:
                latents, original = step(*given, generator=generator, return_dict=False)
        results.append((latents, original, generator.get_state()))
    for one, other in zip(*results):
        assert torch.equal(one, other)
