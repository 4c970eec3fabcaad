"""Training on tiny networks: the published loss, clips and masks, runs that go on to the bit, what comes out."""

import json
import math

import numpy as np
import pytest
import torch

from videopainter.diffusion import VideoPainterBranchModel
from videopainter.diffusion.training.config import TrainingConfig, preset
from videopainter.diffusion.training.data import Clips, find_clips
from videopainter.diffusion.training.loss import encode, training_loss
from videopainter.diffusion.training.masks import changed_masks, random_masks
from videopainter.diffusion.training.networks import save_result
from videopainter.diffusion.training.trainer import checkpoints, learning_rate_share
from videopainter.weights import WeightsError

# --- the loss -------------------------------------------------------------------------------------------------


def published_loss(trainer, batch):
    """The authors' formulas, written out: noise in, velocity out, clean latents from it, weights of the noise level."""
    networks, config = trainer.networks, trainer.config
    alpha = networks.scheduler.alphas_cumprod[batch.timesteps].double().reshape(-1, 1, 1, 1, 1)
    noisy = (alpha.sqrt() * batch.latents.double() + (1 - alpha).sqrt() * batch.noise.double()).float()
    rotary = trainer_rotary(trainer, batch)
    known = {
        "encoder_hidden_states": batch.prompt_embeds,
        "timestep": batch.timesteps,
        "image_rotary_emb": rotary,
    }
    cond = torch.cat([batch.masked_latents, batch.mask], 2)
    samples = networks.branch(hidden_states=noisy, branch_cond=cond, **known).branch_block_samples
    velocity = networks.transformer(
        hidden_states=torch.cat([noisy, batch.image_latents], 2),
        branch_block_samples=samples,
        mask=batch.mask,
        mask_add=True,
        resample=config.kind == "adapter",
        **known,
    ).sample
    clean = alpha.sqrt() * noisy.double() - (1 - alpha).sqrt() * velocity.double()
    weights, target, mask = 1 / (1 - alpha), batch.latents.double(), batch.mask.double()
    whole = (weights * (clean - target) ** 2).flatten(1).mean(1).mean()
    hole = (weights * (clean * mask - target * mask) ** 2).flatten(1).mean(1).mean()
    return whole + config.inpainting_loss_weight * hole, hole


def trainer_rotary(trainer, batch):
    from videopainter.diffusion.rotary import prepare_rotary_tables

    config = trainer.networks.transformer.config
    if not config.use_rotary_positional_embeddings:
        return None
    return prepare_rotary_tables(config.attention_head_dim, 16, (64, 96), batch.latents.shape[1], "cpu")


@pytest.mark.parametrize("kind", ["branch", "adapter"])
def test_loss_and_gradients_are_the_published_ones(make_trainer, kind):
    trainer = make_trainer(kind, batch_size=2, inpainting_loss_weight=0.7)
    if kind == "adapter":  # as after a few updates: a fresh adapter gives nothing
        with torch.no_grad():
            for number, parameter in enumerate(trainer.parameters):
                parameter.copy_(
                    torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)) * 0.1
                )
    samples = [trainer.clips[i] for i in (0, 1)]
    batch = trainer.batch(samples, [0, 1])
    assert len({int(t) for t in batch.timesteps}) == 2
    expected, expected_hole = published_loss(trainer, batch)
    expected.backward()
    gradients = [one.grad.clone() for one in trainer.parameters]
    trainer.optimizer.zero_grad()
    rotary = trainer_rotary(trainer, batch)
    networks = trainer.networks
    loss, hole = training_loss(
        networks.transformer, networks.branch, networks.scheduler, batch, rotary, trainer.config
    )
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(hole.double(), expected_hole, rtol=1e-5, atol=0)
    torch.testing.assert_close(trainer.loss(batch), loss)
    loss.backward()
    for one, other in zip(trainer.parameters, gradients):
        torch.testing.assert_close(one.grad, other, rtol=1e-3, atol=1e-4 * float(other.abs().max()) + 1e-9)
    frozen = networks.transformer if kind == "branch" else networks.branch
    assert all(one.grad is None for one in frozen.parameters())
    assert sum(float(one.abs().sum()) for one in gradients) > 0


def test_what_an_example_is(make_trainer):
    """First frame known, the hole black in the masked clip, image latents of the noised first frame alone."""
    trainer = make_trainer(noised_image_dropout=0.0, mask_transform_prob=0.0)
    sample = next(one for one in map(trainer.clips.__getitem__, range(8)) if one.prompt == "a red car")
    assert sample.video.shape == (9, 3, 64, 96) and sample.video.min() >= -1 and sample.video.max() <= 1
    assert not sample.mask[0].any() and sample.mask[1:, :, 20:44, 30:60].all()
    assert sample.mask[1:].mean() == pytest.approx(24 * 30 / (64 * 96))
    assert (sample.masked[sample.mask.expand(-1, 3, -1, -1) > 0] == -1).all()
    assert torch.equal(sample.masked[0], sample.video[0])
    encoded = encode(trainer.networks.vae, sample, trainer.config)
    assert encoded.mask.shape == (1, 3, 1, 8, 12) and set(encoded.mask.unique().tolist()) == {0.0, 1.0}
    batch = trainer.batch([sample], [3])
    assert not batch.image_latents[:, 1:].any() and batch.image_latents[:, 0].any()
    again = trainer.batch([sample], [3])
    assert torch.equal(batch.noise, again.noise) and torch.equal(batch.latents, again.latents)
    assert not torch.equal(batch.noise, trainer.batch([sample], [4]).noise)
    none = make_trainer(noised_image_dropout=1.0).batch([sample], [3])
    assert not none.image_latents.any()


# --- clips and masks ------------------------------------------------------------------------------------------


def test_the_same_number_is_the_same_example(footage, tiny_config):
    config = tiny_config(proportion_empty_prompts=0.5)
    one, other = (Clips(find_clips(footage), config, 1) for _ in range(2))
    for number in (0, 3):
        a, b = one[number], other[number]
        assert torch.equal(a.video, b.video) and torch.equal(a.mask, b.mask) and a.prompt == b.prompt
    prompts = {one[number].prompt for number in range(12)}
    assert prompts == {"", "a red car", "a dog"}


def test_buckets(footage, tiny_config):
    """Examples of one update have one length; clips are in the longest that they fill."""
    clips = Clips(find_clips(footage), tiny_config(frames=(5, 9, 49)), 2)
    assert list(clips.buckets) == [9] and len(clips.buckets[9]) == 2
    with pytest.raises(ValueError, match="None of 2 clips has 49 frames at 8 a second"):
        Clips(find_clips(footage), tiny_config(frames=(49,)), 1)
    with pytest.raises(ValueError, match="text of 50 letters"):
        Clips(find_clips(footage), tiny_config(min_caption=50), 1)
    with pytest.raises(ValueError, match="There is no folder"):
        find_clips(footage / "gone")
    longer = Clips(find_clips(footage), tiny_config(fps=16.0, frames=(17,)), 1)
    assert longer[0].video.shape[0] == 17


def test_pictures_are_clips_of_one_frame(tmp_path, tiny_config):
    from PIL import Image

    Image.fromarray(np.full((80, 100, 3), 90, np.uint8)).save(tmp_path / "thing.png")
    clips = Clips(find_clips(tmp_path, "my cup"), tiny_config("personal", frames=(1,), resize="center"), 1)
    sample = clips[0]
    assert sample.video.shape == (1, 3, 64, 96) and sample.mask.any() and sample.prompt == "my cup"


def test_random_masks_move_and_grow(tiny_config):
    config = tiny_config(mask_count=1, mask_motion=0.5, mask_growth=0.5)
    moved = grown = 0
    for seed in range(12):
        masks = random_masks(np.random.default_rng(seed), 9, (64, 96), config)
        assert masks.shape == (9, 64, 96) and masks.dtype == bool and masks.any() and not masks.all()
        if masks[0].any() and masks[-1].any():
            centres = [np.argwhere(mask).mean(0) for mask in masks[[0, -1]]]
            moved += np.abs(centres[0] - centres[1]).max() > 4
            grown += abs(int(masks[0].sum()) - int(masks[-1].sum())) > 20
    assert moved > 6 and grown > 6
    still = tiny_config(mask_motion=0.0, mask_growth=0.0)
    masks = random_masks(np.random.default_rng(1), 9, (64, 96), still)
    assert (masks == masks[0]).all()


@pytest.mark.parametrize("kind", ["brush", "rect", "ellipse", "circle", "random_brush"])
def test_given_masks_are_changed(tiny_config, kind):
    shares = {
        f"p_{name}": float(name == kind) for name in ("brush", "rect", "ellipse", "circle", "random_brush")
    }
    config, rng = tiny_config(**shares), np.random.default_rng(0)
    masks = np.zeros((5, 64, 96), bool)
    for i in range(4):  # out of sight in the last frame
        masks[i, 20:40, 20 + 4 * i : 50 + 4 * i] = True
    changed = [changed_masks(rng, masks, config) for _ in range(6)]
    assert any(not np.array_equal(one, masks) for one in changed)
    for one in changed:
        assert one.dtype == bool and not one[4].any() and all((one[i] & masks[i]).any() for i in range(4))
    if kind in ("rect", "random_brush"):
        assert all((one >= masks).all() for one in changed)
    nothing = np.zeros((2, 64, 96), bool)
    assert not changed_masks(rng, nothing, config).any()


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"frames": (48,)}, "`frames` have to be 1, 5, 9"),
        ({"p_brush": 0.9}, "sum to 1"),
        ({"p_rect": 1.5}, "`p_rect` has to be from 0 to 1"),
        ({"steps": 0}, "`steps` has to be 1 or more"),
        ({"optimizer": "sgd"}, "`optimizer` is adamw"),
        ({"mask_scale": (0.5, 0.1)}, "`mask_scale`"),
    ],
)
def test_runs_that_cannot_be(changes, said):
    with pytest.raises(ValueError, match=said):
        preset("branch", **changes)


def test_published_presets():
    branch, adapter = preset("branch"), preset("adapter")
    assert (branch.learning_rate, branch.lr_warmup_steps, branch.frames, branch.fps) == (1e-5, 1000, (49,), 8)
    assert (adapter.learning_rate, adapter.lr_warmup_steps, adapter.rank, adapter.lora_alpha) == (
        5e-5,
        200,
        256,
        128,
    )
    assert adapter.resample and not branch.resample and not preset("personal").resample
    assert preset("personal").rank == 16 and TrainingConfig().first_frame_gt


def test_learning_rate():
    config = preset("branch", steps=100, lr_warmup_steps=10)
    shares = [learning_rate_share(step, config) for step in range(101)]
    assert shares[0] == 0 and shares[10] == 1 and shares[55] == pytest.approx(0.5) and shares[100] == 0
    assert learning_rate_share(3, preset("branch", lr_scheduler="constant")) == 1
    config = preset(
        "branch", steps=100, lr_warmup_steps=0, lr_scheduler="polynomial", lr_power=2.0, learning_rate=1e-3
    )
    assert learning_rate_share(50, config) == pytest.approx(0.25, abs=1e-4)
    assert learning_rate_share(100, config) == pytest.approx(1e-4)  # 1e-7, as in diffusers


def test_mirrored_and_cut_clips(footage, tiny_config):
    """Half of them, with their masks; any part of the picture, the same for all frames."""
    small = {"mask_transform_prob": 0.0, "width": 64, "frames": (1,)}
    plain, turned = (
        [clips[i] for i in range(12)]
        for flip in (False, True)
        if (clips := Clips(find_clips(footage), tiny_config(**small, random_flip=flip), 1))
    )
    same = [torch.equal(a.video, b.video) for a, b in zip(plain, turned)]
    mirrored = [torch.equal(a.video, b.video.flip(-1)) for a, b in zip(plain, turned)]
    assert 1 < sum(mirrored) < 11 and all(a != b for a, b in zip(same, mirrored))
    given = [i for i in range(12) if mirrored[i] and plain[i].prompt == "a red car"]
    assert given and all(torch.equal(plain[i].mask, turned[i].mask.flip(-1)) for i in given)
    cut = Clips(find_clips(footage), tiny_config(mask_transform_prob=0.0, width=64, resize="random"), 1)
    middle = Clips(find_clips(footage), tiny_config(mask_transform_prob=0.0, width=64, resize="center"), 1)
    assert cut[0].video.shape == middle[0].video.shape == (9, 3, 64, 64)
    assert not torch.equal(cut[0].video, middle[0].video)


def test_a_learning_rate_for_one_clip(make_trainer, tmp_path):
    trainer = make_trainer(output=tmp_path / "run", steps=1, accumulation=2, scale_lr=True)
    trainer.run(say=quiet)
    assert trainer.optimizer.param_groups[0]["lr"] == 2 * trainer.config.learning_rate


# --- runs -----------------------------------------------------------------------------------------------------


def weights(trainer):
    return [one.detach().clone() for one in trainer.parameters]


def quiet(text):
    pass


@pytest.mark.parametrize(
    "kind, more",
    [("branch", {}), ("adapter", {"cache_latents": 2, "frames": (5, 9)})],
    ids=["branch", "adapter"],
)
def test_a_run_goes_on_to_the_bit(make_trainer, tmp_path, kind, more):
    """With a running mean, and, of the adapter, with latents that are kept and clips of two lengths."""
    options = {"ema": 0.9, "checkpointing_steps": 2, "accumulation": 2, "checkpoints_total_limit": 2, **more}
    whole = make_trainer(kind, tmp_path / "whole", **options)
    result = whole.run(say=quiet)
    assert whole.step == 4 and [path.name for path in checkpoints(tmp_path / "whole")] == [
        "checkpoint-2",
        "checkpoint-4",
    ]
    second = make_trainer(kind, tmp_path / "second", **options)
    second.resume(tmp_path / "whole" / "checkpoint-2")
    assert second.step == 2 and second.losses == whole.losses[:2]
    second.run(say=quiet)
    assert second.losses == whole.losses
    assert all(map(torch.equal, weights(second), weights(whole))) and all(
        map(torch.equal, second.mean, whole.mean)
    )
    assert result.exists() and (tmp_path / "whole" / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "whole/checkpoint-4/training.json").read_text())["kind"] == kind
    other = make_trainer(kind, tmp_path / "other", **{**options, "learning_rate": 5e-3})
    with pytest.raises(WeightsError, match="with another learning_rate"):
        other.resume(tmp_path / "whole" / "checkpoint-2")
    (tmp_path / "whole/checkpoint-2/state.pt").write_bytes(b"no state")
    with pytest.raises(WeightsError):
        second.resume(tmp_path / "whole" / "checkpoint-2")


def test_stopped_after_an_update(make_trainer, tmp_path):
    trainer = make_trainer(output=tmp_path / "run")
    assert trainer.run(stop=lambda: True, say=quiet) is None
    assert trainer.step == 1 and [one.name for one in checkpoints(tmp_path / "run")] == ["checkpoint-1"]


def test_accumulation_is_one_large_batch(make_trainer, tmp_path):
    """Four examples side by side, or one after the other: the same update."""
    one = make_trainer(batch_size=4, steps=1, output=tmp_path / "a")
    other = make_trainer(batch_size=1, accumulation=4, steps=1, output=tmp_path / "b")
    one.run(say=quiet), other.run(say=quiet)
    assert one.losses == pytest.approx(other.losses, rel=1e-5)
    begun = make_trainer(output=tmp_path / "c")
    for a, b, start in zip(weights(one), weights(other), weights(begun)):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-4 * 5)
        assert a.shape == start.shape


def test_two_clips_are_learned_by_heart(make_trainer, tmp_path):
    """A new branch, whose outputs are zero, lowers the loss of examples with noise that training has not drawn."""
    changes = {"steps": 30, "learning_rate": 4e-3, "inpainting_loss_weight": 0.0, "cache_latents": 1}
    trainer = make_trainer(output=tmp_path / "run", mask_transform_prob=0.0, batch_size=2, **changes)
    with torch.no_grad():
        for layer in trainer.plain.branch_blocks:
            for one in layer.parameters():
                one.zero_()
    fixed = [trainer.batch([trainer.clips[n]], [10_000 + n]) for n in range(4)]

    def measured():
        with torch.no_grad():
            return sum(float(trainer.loss(batch)) for batch in fixed) / len(fixed)

    before = measured()
    trainer.run(say=quiet)
    assert all(math.isfinite(loss) for loss in trainer.losses) and len(trainer._cache) == 2
    assert measured() < 0.9 * before


def test_a_loss_that_is_no_number_ends_the_run(make_trainer, tmp_path):
    trainer = make_trainer(output=tmp_path / "run")
    with torch.no_grad():
        trainer.parameters[0].fill_(math.nan)
    with pytest.raises(FloatingPointError, match="The loss of update 1 is no number"):
        trainer.run(say=quiet)


# --- what comes out -------------------------------------------------------------------------------------------


def test_a_branch_as_released(make_trainer, tmp_path, tiny):
    trainer = make_trainer(output=tmp_path / "run", steps=1)
    result = trainer.run(say=quiet)
    assert {path.name for path in result.iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors"}
    branch = VideoPainterBranchModel.from_pretrained(result)
    assert all(
        torch.equal(one, branch.state_dict()[name]) for name, one in trainer.plain.state_dict().items()
    )
    frames = tiny.pipeline(branch=branch)(
        **tiny.arguments(output_type="latent", num_inference_steps=1)
    ).frames
    assert frames.isfinite().all()


def test_an_adapter_as_released(make_trainer, tmp_path, tiny):
    """Loaded by the pipeline it does what it did in training, its strength included."""
    trainer = make_trainer("adapter", tmp_path / "run", steps=2, learning_rate=0.05)
    result = trainer.run(say=quiet)
    assert result.name == "pytorch_lora_weights.safetensors"
    pipe = tiny.pipeline()
    inputs = tiny.model_inputs()
    with torch.no_grad():
        plain = pipe.transformer(**inputs.base).sample
        pipe.load_lora_weights(result.parent, weight_name=result.name)
        loaded = pipe.transformer(**inputs.base).sample
        trained = trainer.plain.eval()(**inputs.base).sample
    torch.testing.assert_close(loaded, trained, rtol=1e-4, atol=1e-4)
    assert (plain - loaded).abs().max() > 1e-2


def test_the_running_mean_is_the_result(make_trainer, tmp_path):
    trainer = make_trainer(output=tmp_path / "run", steps=2, ema=0.5)
    result = trainer.run(say=quiet)
    branch = VideoPainterBranchModel.from_pretrained(result)
    names = [name for name, one in trainer.plain.named_parameters() if one.requires_grad]
    for name, mean in zip(names, trainer.mean):
        assert torch.equal(branch.state_dict()[name], mean)
    assert save_result(tmp_path / "again", trainer.plain, trainer.config, trainer.result_state()).is_dir()
