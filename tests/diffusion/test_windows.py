"""Where windows lie, that they stay in step with the video, and how they are joined."""

from dataclasses import replace

import pytest
import torch
from diffusers import FirstBlockCacheConfig
from PIL import Image

from videopainter.diffusion.policy import PUBLISHED
from videopainter.diffusion.windows import LatentBlender, plan_windows

LENGTHS = [1, 5, 48, 49, 50, 97, 98, 500]


@pytest.mark.parametrize("frames", LENGTHS)
@pytest.mark.parametrize(("length", "overlap"), [(49, 1), (49, 5), (49, 25), (9, 1), (13, 5)])
def test_every_frame_is_covered_and_no_window_is_idle(frames, length, overlap):
    plan = plan_windows(frames, length, overlap)
    assert plan.frames_of(plan.count - 1).stop >= frames
    assert plan.count == 1 or plan.frames_of(plan.count - 2).stop < frames
    assert (plan.total_latents - 1) * 4 + 1 >= frames


@pytest.mark.parametrize(("length", "overlap"), [(49, 1), (49, 5), (49, 25), (9, 1), (9, 5)])
def test_windows_stay_in_step(length, overlap):
    """Latent frame i stands for frames 4i - 3 to 4i, so a window may only start at a multiple of 4."""
    plan = plan_windows(500, length, overlap)
    advance = plan.latent_length - plan.shared
    for number in range(plan.count):
        assert plan.frames_of(number).start == 4 * advance * number


@pytest.mark.parametrize(
    ("length", "overlap", "said"),
    [
        (48, 1, "`window` .* is 48"),
        (1, 0, "`window` .* is 1"),
        (49, 0, "`overlap` .* is 0"),
        (49, 4, "`overlap` .* is 4"),
        (49, 49, "`overlap` .* is 49"),
        (49, -3, "`overlap` .* is -3"),
    ],
)
def test_windows_that_would_drift_are_an_error(length, overlap, said):
    with pytest.raises(ValueError, match=said):
        plan_windows(100, length, overlap)


def test_no_frames():
    with pytest.raises(ValueError, match="no frames"):
        plan_windows(0, 49, 1)


def test_the_reference_drops_the_tail_and_takes_any_overlap():
    plan = plan_windows(100, 49, 0, policy=PUBLISHED)
    assert (plan.count, plan.shared, plan.total_latents) == (2, 1, 25)
    plan = plan_windows(73, 49, 25, policy=PUBLISHED)
    assert (plan.count, plan.shared, plan.total_latents) == (2, 7, 19)
    with pytest.raises(ValueError, match="needs 49 frames or more; it has 48"):
        plan_windows(48, 49, 0, policy=PUBLISHED)
    with pytest.raises(ValueError, match="is 49"):
        plan_windows(100, 49, 49, policy=PUBLISHED)


def windows_of(plan, value=float):
    """Latents [1, T, 1, 1, 1] of each window; window k is value(k) everywhere."""
    return [torch.full((1, plan.latent_length, 1, 1, 1), value(number)) for number in range(plan.count)]


def joined(plan, latents, **options):
    blender = LatentBlender(plan, **options)
    parts = [blender.push(one, number == plan.count - 1) for number, one in enumerate(latents)]
    return parts, torch.cat(parts, dim=1).flatten()


def test_a_new_window_is_faded_in():
    plan = plan_windows(83, 49, 13)  # four latent frames in common
    parts, values = joined(plan, windows_of(plan))
    assert [part.shape[1] for part in parts] == [9, 13]
    assert len(values) == plan.total_latents
    assert values[8:14].tolist() == [0, 0, 0.25, 0.5, 0.75, 1]


def test_one_latent_frame_in_common_stays_the_earlier_window_s():
    plan = plan_windows(97, 49, 1)
    _, values = joined(plan, windows_of(plan))
    assert values.tolist() == [0] * 13 + [1] * 12


def test_the_reference_takes_the_mean():
    plan = plan_windows(21, 13, 9, policy=PUBLISHED)  # three windows; some latent frames are in all of them
    _, values = joined(plan, windows_of(plan), average=True)
    assert values.tolist() == [0, 0.5, 1, 1, 1.5, 2]


def test_equal_windows_stay_as_they_are():
    plan = plan_windows(500, 49, 9)
    torch.manual_seed(0)
    whole = torch.randn(1, plan.total_latents, 2, 3, 3)
    advance = plan.latent_length - plan.shared
    cut = [whole[:, n * advance : n * advance + plan.latent_length] for n in range(plan.count)]
    blender = LatentBlender(plan)
    parts = [blender.push(one, number == plan.count - 1) for number, one in enumerate(cut)]
    assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-6)


def test_the_caller_s_latents_are_not_changed():
    plan = plan_windows(17, 9, 1)
    latents = windows_of(plan)
    joined(plan, latents)
    assert all((one == number).all() for number, one in enumerate(latents))


@pytest.mark.parametrize("id_pool", [False, True])
def test_a_window_without_a_hole_needs_no_network(tiny, id_pool, monkeypatch):
    """It and the windows around it are what they would be if it were denoised."""
    arguments = {"id_pool": id_pool, "prev_clip_weight": 0.5 * id_pool, "output_type": "latent"}
    calls, steps = [], []

    def run():
        pipe = tiny.pipeline()
        pipe.transformer.register_forward_pre_hook(lambda *_: calls.append(pipe.current_window))
        given = tiny.arguments(25, **arguments, callback_on_step_end=lambda *_: steps.append(1) or {})
        given["masks"][9:17] = False  # the second of three windows, but for the frame that it shares
        given["masks"][8] = False
        return pipe(**given).frames

    found = run()
    assert calls == [0, 0, 2, 2] and len(steps) == 6
    monkeypatch.setattr("videopainter.diffusion.pipeline.is_known", lambda *_: False)
    calls.clear()
    assert torch.equal(run(), found) and calls == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("changes", [{}, {"id_pool": True, "prev_clip_weight": 0.5}, {"mask_add": False}])
def test_what_is_not_used_is_not_predicted(tiny, changes):
    """After the last block nobody looks at tokens whose latents are put back, nor at samples in the hole."""
    results, kept = [], []
    for everywhere in (True, False):
        pipe = tiny.pipeline()
        prepare, only = pipe.prepare_latents, []

        def prepared(*args, prepare=prepare, everywhere=everywhere, **kwargs):
            window = prepare(*args, **kwargs)
            return replace(window, predicted=None, sampled=None) if everywhere else window

        pipe.prepare_latents = prepared
        for network in (pipe.transformer, pipe.branch):
            network.transformer_blocks[-1].register_forward_hook(
                lambda block, args, out, only=only: only.append(out[0].shape[1] / 72)
            )
        results.append(pipe(**tiny.arguments(17, output_type="pt", **changes)).frames)
        kept.append(only)
    assert max(kept[1]) <= 1 and min(kept[1]) < 0.5 and set(kept[0]) == {1.0}
    torch.testing.assert_close(*results, rtol=0, atol=1e-5)


def test_all_is_predicted_where_all_is_used(tiny):
    """Without known latents put back, or where a cache keeps what blocks give."""
    pipe = tiny.pipeline()
    arguments = tiny.arguments(9, replace_gt=False)
    seen = []
    pipe.transformer.transformer_blocks[-1].register_forward_hook(
        lambda block, args, out: seen.append(out[0].shape[1])
    )
    pipe(**arguments)
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.0))
    pipe(**tiny.arguments(9))
    assert set(seen) == {72}


@pytest.mark.parametrize(("frames", "last"), [(9, 0), (17, 4), (20, None), (20, 5), (33, 12), (33, 32)])
def test_what_comes_after_the_last_hole_is_not_decoded(tiny, frames, last):
    """Frames up to there have the same bits as with all decoded; later ones are the video's own."""
    video, masks = tiny.clip(frames)
    masks[(0 if last is None else last + 1) :] = False
    results, decoded = [], []
    for known in (True, False):
        pipe = tiny.pipeline()
        decode, count = pipe.vae.decoder.forward, []

        def counted(latents, *args, decode=decode, count=count, **kwargs):
            count.append(latents.shape[2])
            return decode(latents, *args, **kwargs)

        pipe.vae.decoder.forward = counted
        call = tiny.arguments(
            frames, masks=masks, num_inference_steps=1, output_type="pt", decode_known=known
        )
        results.append(pipe(**call).frames[0])
        decoded.append(sum(count))
    all_of_it, some = results
    end = 0 if last is None else min(frames, last + 1)
    assert len(some) == len(all_of_it) == frames and torch.equal(some[:end], all_of_it[:end])
    needed = 0 if last is None else 1 + -(-min(last, frames - 1) // 4)
    assert needed <= decoded[1] <= min(decoded[0], needed + 2)
    own = torch.from_numpy(video).permute(0, 3, 1, 2) / 255
    after = 0 if decoded[1] == 0 else 4 * decoded[1] - 3
    assert (some[after:] - own[after:]).abs().max() < 1e-5 if after < frames else True


def test_a_finished_first_frame_is_decoded(tiny):
    """It is not the video's own, whether it has a hole or not."""
    video, masks = tiny.clip(17)
    masks[:] = False
    image = Image.fromarray(255 - video[0])
    call = {"masks": masks, "image": image, "num_inference_steps": 1, "output_type": "pt"}
    all_of_it, some = (
        tiny.pipeline()(**tiny.arguments(17, **call, decode_known=known)).frames[0] for known in (True, False)
    )
    assert torch.equal(some[:9], all_of_it[:9])  # the first piece that the decoder makes
    assert (some[9:] - torch.from_numpy(video[9:]).permute(0, 3, 1, 2) / 255).abs().max() < 1e-5
