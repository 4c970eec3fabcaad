"""Pictures of frames and what segmenters see of them: sizes, decoders that rest, places in large frames."""

import threading

import numpy as np
import pytest
from served import COUNT, HEIGHT, WIDTH, an_object, click, iou, picture, put, thing_masks, until

from videopainter.web import frames as pictures
from videopainter.web.frames import Clicked, Frames, resized
from videopainter.web.prompts import scaled

FACTS = {"frames": COUNT, "width": WIDTH, "height": HEIGHT, "fps": 12.0}


def test_a_decoder_rests_and_is_there_again(clip):
    frames = Frames(rest=0.05)
    first = frames.frame(clip, 3)
    until(lambda: not frames._sources, "the video to be closed")
    assert (frames.frame(clip, 3) == first).all()
    # Also while several ask for frames all the time.
    found: list[np.ndarray] = []
    asking = [
        threading.Thread(target=lambda: found.extend(frames.frame(clip, 3) for _ in range(20)))
        for _ in range(3)
    ]
    for one in asking:
        one.start()
    for _ in range(20):
        frames._let_go(clip)
    for one in asking:
        one.join()
    assert len(found) == 60 and all((one == first).all() for one in found)
    frames.close()


def test_a_segmenter_sees_frames_as_they_are_or_smaller(clip, monkeypatch):
    frames = Frames()
    whole = Clicked(frames, clip, FACTS)
    assert whole.size == (HEIGHT, WIDTH) and (whole[2:4][1] == frames.frame(clip, 3)).all()
    monkeypatch.setattr(pictures, "LARGEST_CLICKED", WIDTH * HEIGHT - 1)
    monkeypatch.setattr(pictures, "SMALL_CLICKED", WIDTH * HEIGHT // 4)
    small = Clicked(frames, clip, FACTS)
    assert small.size == (HEIGHT // 2, WIDTH // 2) and small[0:12].shape == (12, *small.size, 3)
    assert (
        len(small) == COUNT and (small[11] == small[11:12][0]).all() and small[-1].shape == (*small.size, 3)
    )
    with pytest.raises(IndexError):
        small[COUNT]
    frames.close()


def test_a_large_frame_is_clicked_in_small(client, project, monkeypatch):
    monkeypatch.setattr(pictures, "LARGEST_CLICKED", WIDTH * HEIGHT - 1)
    monkeypatch.setattr(pictures, "SMALL_CLICKED", WIDTH * HEIGHT // 2)
    box = {"kind": "box", "frame": 4, "x0": 38, "y0": 42, "x1": 77, "y1": 71}
    for prompts in ([click(4)], [box]):
        put(client, project)
        put(client, project, an_object(*prompts))
        overlay = picture(client.get(f"/api/projects/{project}/frames/4/masks"))[..., 3] > 0
        # A pixel of the small frame is 10 % of this thing; its middle tells whether it was found in the right place.
        assert iou(overlay, thing_masks()[4]) > 0.7
        assert np.abs(np.argwhere(overlay).mean(0) - np.argwhere(thing_masks()[4]).mean(0)).max() < 1


def test_places_and_masks_in_another_size():
    prompt = {"kind": "brush", "x": 0.0, "y": 9.5, "x0": 1.5, "y0": 0, "x1": 0, "y1": 0}
    prompt["strokes"] = [{"radius": 4.0, "points": [(9.5, 19.5)]}]
    half = scaled(prompt, 0.5)
    assert (half["x"], half["y"], half["x0"]) == (-0.25, 4.5, 0.5)
    assert half["strokes"] == [{"radius": 2.0, "points": [(4.5, 9.5)]}]
    mask = np.zeros((40, 60), bool)
    mask[10:30, 20:50] = True
    again = resized(resized(mask, (20, 30)), (40, 60))
    assert again.dtype == bool and iou(again, mask) > 0.95 and resized(mask, (40, 60)) is mask
