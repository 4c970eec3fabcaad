"""One training step, from pixels to gradients, against the published training scripts with the same noise.

Limits: 1e-5 of the loss and 1e-4 of a gradient's norm. A wrong weight, mask or order moves them by 1e-2 and more.
"""

import json

import golden
import pytest
import torch
import vp

from videopainter.diffusion.rotary import prepare_rotary_tables
from videopainter.diffusion.training.config import preset
from videopainter.diffusion.training.data import Sample
from videopainter.diffusion.training.loss import encode, make_batch, training_loss
from videopainter.diffusion.training.networks import Networks

RECORDED = json.loads((golden.OWN / "videopainter" / "training_step.json").read_text(encoding="utf-8"))
FRAMES, HEIGHT, WIDTH = 9, 64, 96


def sample(number: int) -> Sample:
    numbers = golden.module("fill").normal_array(f"training:video:{number}", FRAMES * 3 * HEIGHT * WIDTH)
    video = torch.from_numpy(numbers.reshape(FRAMES, 3, HEIGHT, WIDTH)).float().mul(0.4).clamp(-1, 1)
    mask = torch.zeros(FRAMES, 1, HEIGHT, WIDTH)
    mask[1:, :, 16:44, 20 + 8 * number : 60] = 1
    return Sample(video, torch.where(mask > 0, -1.0, video), mask, "", number)


@pytest.mark.parametrize("name", RECORDED)
def test_a_training_step_is_the_published_one(name):
    recorded, fill = RECORDED[name], golden.module("fill")
    options, config = recorded["options"], vp.config("tiny")
    changes = {
        "mask_add": options["mask_add"],
        "add_first": options["add_first"],
        "inpainting_loss_weight": options["weight"],
        "noised_image_dropout": options["dropout"],
    }
    settings = preset(
        options["kind"],
        height=HEIGHT,
        width=WIDTH,
        frames=(FRAMES,),
        batch_size=2,
        rank=4,
        lora_alpha=2.0,
        wo_text=options["wo_text"],
        **changes,
    )
    seeds = config["seeds"]
    networks = Networks(
        *(vp.model(part, "tiny", seeds) for part in ("vae", "transformer", "branch")), vp.scheduler("tiny")
    )
    trained = networks.prepare(settings)
    if options["kind"] == "adapter":
        with torch.no_grad():
            for key, parameter in trained.named_parameters():
                if parameter.requires_grad:
                    parameter.copy_(fill.fill_tensor(key, parameter.shape, seeds["lora"]))
    encoded = [encode(networks.vae, sample(number), settings) for number in range(2)]
    text = torch.from_numpy(fill.normal_array("training:text", 2 * 16 * 32).reshape(2, 16, 32)).float()
    scale, steps = config["vae"]["scaling_factor"], config["scheduler"]["num_train_timesteps"]
    batch = make_batch(encoded, [0, 1], text, scale, steps, settings, torch.float32)
    assert batch.timesteps.tolist() == recorded["timesteps"], "these are other draws than the recorded ones"
    rotary = prepare_rotary_tables(config["transformer"]["attention_head_dim"], 16, (HEIGHT, WIDTH), 3, "cpu")
    loss, hole = training_loss(
        networks.transformer, networks.branch, networks.scheduler, batch, rotary, settings
    )
    assert float(loss.detach()) == pytest.approx(recorded["loss"], rel=1e-5)
    assert float(hole.detach()) == pytest.approx(recorded["inpainting_loss"], rel=1e-5)
    loss.backward()
    found = {key: one.grad for key, one in trained.named_parameters() if one.grad is not None}
    assert set(found) == set(recorded["gradients"])
    for key, (norm, product) in recorded["gradients"].items():
        gradient = found[key].double().flatten()
        probe = torch.from_numpy(fill.normal_array(f"probe:{key}", gradient.numel()))
        limit = 1e-4 * norm
        assert float(gradient.norm()) == pytest.approx(norm, abs=limit), key
        # A product with random numbers is as large as the norm.
        assert float(gradient @ probe) == pytest.approx(product, abs=limit), key
