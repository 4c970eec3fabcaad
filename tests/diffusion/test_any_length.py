"""Videos of any length: every frame comes out, in step, and memory does not grow with their number."""

import gc

import numpy as np
import pytest
import torch

from videopainter.diffusion import VideoPainterPipeline
from videopainter.diffusion.latents import WindowLatents


@pytest.mark.parametrize("output_type", ["np", "latent"])
@pytest.mark.parametrize("frames", [1, 2, 5, 8, 9, 10, 17, 18])
def test_every_frame_is_in_the_output(tiny, frames, output_type):
    arguments = tiny.arguments(frames, num_inference_steps=1, output_type=output_type)
    result = tiny.pipeline()(**arguments).frames
    assert result.shape[:2] == (1, frames if output_type == "np" else (frames - 1) // 4 + 1)


@pytest.mark.slow
@pytest.mark.parametrize("frames", [1, 5, 48, 49, 50, 97, 500])
def test_every_frame_is_in_the_output_with_windows_of_the_release(tiny, frames):
    arguments = tiny.arguments(frames, num_inference_steps=1, window=49, id_pool=True, prev_clip_weight=0.5)
    count = 0
    for part in tiny.pipeline().stream(**arguments):
        assert np.isfinite(part).all()
        count += part.shape[1]
    assert count == frames


@pytest.mark.parametrize(("window", "overlap"), [(13, 5), (5, 1), (9, 5)])
def test_other_windows_and_overlaps(tiny, window, overlap):
    arguments = tiny.arguments(23, num_inference_steps=1, window=window, overlap=overlap)
    assert tiny.pipeline()(**arguments).frames.shape == (1, 23, *tiny.size, 3)


def test_a_known_video_comes_back_in_step(tiny):
    """With nothing to repaint the output is the VAE's rendering of the input, frame by frame: no drift."""
    pipe = tiny.pipeline()
    arguments = tiny.arguments(25, num_inference_steps=1, output_type="latent")
    arguments["masks"][:] = False
    latents = pipe(**arguments).frames
    # Latent frames after the first of a window depend on that window's frames alone.
    for start in (0, 8, 16):
        window = tiny.arguments(25)["video"][start : start + 9]
        pixels = pipe.video_processor.preprocess_video([_image(frame) for frame in window])
        with torch.no_grad():
            alone = pipe.vae.encode(pixels).latent_dist.mode().permute(0, 2, 1, 3, 4)
        alone = alone * pipe.vae.config.scaling_factor
        here = latents[:, start // 4 : start // 4 + 3]
        noise = 1e-3 + _deviation(pipe, pixels)
        assert (here[:, 1:] - alone[:, 1:]).abs().max() < 8 * noise


def _image(frame):
    from PIL import Image

    return Image.fromarray(frame)


def _deviation(pipe, pixels) -> float:
    with torch.no_grad():
        return float(pipe.vae.encode(pixels).latent_dist.std.max() * pipe.vae.config.scaling_factor)


def test_parts_of_the_stream_are_the_whole(tiny):
    whole = tiny.pipeline()(**tiny.arguments(25, num_inference_steps=1)).frames
    parts = list(tiny.pipeline().stream(**tiny.arguments(25, num_inference_steps=1)))
    assert len(parts) == 2  # the first window alone ends before the decoder can start
    assert np.array_equal(np.concatenate(parts, axis=1), whole)


@pytest.mark.parametrize("output_type", ["pil", "pt", "latent"])
def test_streams_of_every_kind(tiny, output_type):
    arguments = {"output_type": output_type}
    whole = tiny.pipeline()(**tiny.arguments(17, **arguments)).frames
    parts = list(tiny.pipeline().stream(**tiny.arguments(17, **arguments)))
    if output_type == "pil":
        joined = [frame for part in parts for frame in part[0]]
        assert all(np.array_equal(a, b) for a, b in zip(joined, whole[0], strict=True))
    else:
        assert torch.equal(torch.cat(parts, dim=1), whole)


def test_wrong_arguments_of_a_stream_are_told_at_once(tiny):
    with pytest.raises(TypeError, match="guidance"):
        tiny.pipeline().stream(**tiny.arguments(), guidance=3)
    with pytest.raises(ValueError, match="`overlap`"):
        tiny.pipeline().stream(**tiny.arguments(overlap=3))


def test_a_stream_can_be_left(tiny):
    pipe = tiny.pipeline()
    stream = pipe.stream(**tiny.arguments(25, num_inference_steps=1))
    next(stream)
    stream.close()
    assert pipe(**tiny.arguments(9)).frames.shape[1] == 9


def test_memory_does_not_grow_with_length(tiny):
    """Elements of all living tensors in the fourth window and later: the same."""

    def living(pipe, step, timestep, tensors):
        if pipe.current_window >= 3:
            gc.collect()
            alive = [x for x in gc.get_objects() if type(x) is torch.Tensor]
            counts.append(sum(x.numel() for x in alive))
        return {}

    counts: list[int] = []
    arguments = tiny.arguments(57, num_inference_steps=1, id_pool=True, prev_clip_weight=0.5)
    arguments["callback_on_step_end"] = living
    arguments["masks"][:] = arguments["masks"][0]  # a hole that stands still, so that pools are equally large
    for _ in tiny.pipeline().stream(**arguments):
        pass
    *with_successor, last = counts
    assert len(counts) == 4
    assert max(with_successor) <= min(with_successor) * 1.01
    assert last <= with_successor[0]  # it leaves no pool to anybody


def test_the_hole_is_not_looked_at(tiny):
    arguments, other = (tiny.arguments(17, num_inference_steps=1) for _ in range(2))
    other["video"] = np.where(other["masks"][..., None], 255 - other["video"], other["video"])
    assert np.array_equal(tiny.pipeline()(**arguments).frames, tiny.pipeline()(**other).frames)


def test_masks_of_the_background(tiny):
    usual, inverted = tiny.arguments(9), tiny.arguments(9, mask_background=True)
    inverted["masks"] = ~inverted["masks"]
    assert np.array_equal(tiny.pipeline()(**usual).frames, tiny.pipeline()(**inverted).frames)


class Recording(VideoPainterPipeline):
    windows: list[WindowLatents]

    def denoise_window(self, window, *args, **kwargs):
        self.windows.append(window)
        return super().denoise_window(window, *args, **kwargs)


def windows_of(tiny, **options):
    pipe = tiny.pipeline(kind=Recording)
    pipe.windows = []
    pipe(**tiny.arguments(17, num_inference_steps=1, **options))
    return pipe.windows


def test_a_given_first_frame_is_kept_and_the_rest_is_painted(tiny):
    image = tiny.clip(1, seed=9)[0][0]
    with_image = windows_of(tiny, image=image)
    assert not with_image[0].mask[:, 0].any() and with_image[0].mask[:, 1:].any()
    assert not with_image[0].repaint_mask[:, 0].any()
    assert with_image[1].mask[:, 0].any()  # only the video's own first frame
    masked = windows_of(tiny, image=image, first_frame_gt=False)
    assert masked[0].mask[:, 0].any()
    as_it_is = windows_of(tiny, first_frame_gt=True)
    assert not as_it_is[0].mask[:, 0].any()
    assert windows_of(tiny)[0].mask[:, 0].any()


def test_latents_are_put_back_only_where_nothing_is_masked(tiny):
    """The mask the network sees samples one pixel of a block; what is put back has to be free of the hole."""
    arguments = tiny.arguments(9, num_inference_steps=1)
    arguments["masks"][:] = False
    arguments["masks"][3, 21, 37] = True  # missed by the sampled mask
    for match_reference in (False, True):
        pipe = tiny.pipeline(kind=Recording)
        pipe.windows = []
        pipe(**{**arguments, "match_reference": match_reference})
        assert not pipe.windows[0].mask.any()
        expected = [] if match_reference else [[0, 1, 0, 2, 4]]
        assert pipe.windows[0].repaint_mask.nonzero().tolist() == expected
