"""The matte and the cut-out foreground, decoded as a compositor would."""

import av
import numpy as np
import pytest
from clips import moving_texture

from videopainter import inpaint_video
from videopainter.video import VideoError

COUNT, HEIGHT, WIDTH = 6, 64, 96


@pytest.fixture(scope="module")
def clip():
    frames = moving_texture(COUNT, HEIGHT, WIDTH)
    masks = np.zeros((COUNT, HEIGHT, WIDTH), bool)
    for i in range(COUNT):
        masks[i, 20:44, 20 + 2 * i : 50 + 2 * i] = True
    return frames, masks


def decoded(path, kind: str) -> np.ndarray:
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format=kind) for frame in file.decode(video=0)])


@pytest.mark.parametrize("mask_only", [False, True])
def test_both_files_hold_the_object(clip, tmp_path, mask_only):
    frames, masks = clip
    result = inpaint_video(
        frames,
        masks,
        output_dir=tmp_path,
        engine="propagation",
        export="matte,foreground",
        mask_only=mask_only,
    )
    assert {"matte.mp4", "foreground.mov"} <= {path.name for path in result.files}
    matte = decoded(tmp_path / "matte.mp4", "gray")
    cut_out = decoded(tmp_path / "foreground.mov", "rgba")
    assert matte.shape == masks.shape and cut_out.shape == (*masks.shape, 4)
    for alpha in (matte, cut_out[..., 3]):
        assert np.array_equal(alpha > 127, masks)
        assert alpha[masks].mean() > 240 and alpha[~masks].mean() < 6
    # The colours are those of the source, not multiplied by alpha.
    error = np.abs(cut_out[..., :3].astype(int) - frames)[masks]
    assert error.mean() < 4


def test_nothing_is_left_of_a_run_that_fails(clip, tmp_path):
    frames, masks = clip

    def stop(stage, done, total):
        if stage == "inpaint" and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inpaint_video(
            frames, masks, output_dir=tmp_path / "out", engine="propagation", export=["matte"], progress=stop
        )
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left <= {"frame0_original.png", "frame0_with_mask.png", "mask0.png"}


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"export": "plate", "output_dir": "out"}, "no export 'plate'; the names are matte, foreground"),
        ({"export": "matte"}, "Exports go into the output folder"),
    ],
)
def test_what_cannot_be_exported(clip, arguments, sentence):
    with pytest.raises(VideoError, match=sentence):
        inpaint_video(*clip, engine="propagation", **arguments)
