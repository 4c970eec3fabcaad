"""A call that is left after some windows goes on in another pipeline, with the frames that it would have given."""

import numpy as np
import pytest
import torch

OPTIONS = {"id_pool": True, "prev_clip_weight": 0.5, "overlap": 5}


def parts(pipe, tiny, left_after=None, resume=None, **changes):
    out = []
    for part in pipe.stream(**tiny.arguments(25, **OPTIONS, **changes), resume=resume):
        out.append(part)
        if left_after is not None and len(out) == left_after:
            break
    return out


@pytest.mark.parametrize("tiling", [False, True])
def test_it_goes_on_where_it_was_left(tiny, tiling):
    def pipeline():
        pipe = tiny.pipeline()
        if tiling:
            pipe.vae.enable_tiling(tile_sample_min_height=48, tile_sample_min_width=80)
        return pipe

    whole = parts(pipeline(), tiny)
    first = pipeline()
    begun = parts(first, tiny, left_after=1)
    assert 0 < first.stream_state.number < first.num_windows
    rest = parts(pipeline(), tiny, resume=first.stream_state)
    assert np.array_equal(np.concatenate(begun + rest, axis=1), np.concatenate(whole, axis=1))


def test_the_state_survives_a_failure(tiny):
    """A window that runs out of memory in the middle leaves what the windows before it have come to."""
    whole = parts(tiny.pipeline(), tiny)
    pipe, given = tiny.pipeline(), []
    calls = []

    def fail(*_):
        calls.append(1)
        if len(calls) == 4:  # in the second of two steps of the second window
            raise torch.OutOfMemoryError("CUDA out of memory.")

    handle = pipe.transformer.register_forward_pre_hook(fail)
    with pytest.raises(torch.OutOfMemoryError):
        for part in pipe.stream(**tiny.arguments(25, **OPTIONS)):
            given.append(part)
    handle.remove()
    given += parts(tiny.pipeline(), tiny, resume=pipe.stream_state)
    assert np.array_equal(np.concatenate(given, axis=1), np.concatenate(whole, axis=1))


@torch.no_grad()
def test_tiles_take_over_from_the_whole_picture(tiny):
    """As when a lower memory mode switches tiling on between two windows."""
    from videopainter.diffusion.vae import StreamingDecoder

    vae = tiny.make("vae")
    latents = torch.randn(1, 16, 7, 8, 12, generator=torch.Generator().manual_seed(0))
    whole = StreamingDecoder(vae, 7)
    wanted = torch.cat([whole.push(latents[:, :, :3]), whole.push(latents[:, :, 3:])], dim=2)
    switched = StreamingDecoder(vae, 7)
    first = switched.push(latents[:, :, :3])
    vae.enable_tiling(tile_sample_min_height=48, tile_sample_min_width=80)
    second = switched.push(latents[:, :, 3:])
    fresh = StreamingDecoder(vae, 4).push(latents[:, :, 3:])[:, :, -second.shape[2] :]
    assert first.shape[2] + second.shape[2] == 25
    # Nearer to the whole picture's frames than tiles that know nothing of the frames before.
    error, without = ((part - wanted[:, :, 9:]).abs()[:, :, :4].mean() for part in (second, fresh))
    assert error < without
