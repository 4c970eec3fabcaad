"""Small synthetic clips for all tests, in memory and in files."""

from fractions import Fraction

import av
import cv2
import numpy as np

from videopainter.utils.scheduling import usual_scheduling


def random_clip(count: int, height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """uint8 frames (n, h, w, 3) that slide by two pixels, and bool masks (n, h, w) of a box that wanders."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 4 + count, width // 4 + count, 3), np.uint8)
    texture = coarse.repeat(4, 0).repeat(4, 1)
    frames = np.stack([texture[2 * i : 2 * i + height, i : i + width] for i in range(count)])
    masks = np.zeros((count, height, width), bool)
    for i, mask in enumerate(masks):
        top, left = (height // 4 + i) % (height // 2 + 1), (width // 4 + 2 * i) % (width // 2 + 1)
        mask[top : top + height // 3, left : left + width // 3] = True
    return frames, masks


class ArrayClip:
    """Frames and masks in memory, by number; `asked` counts how often each frame was read."""

    def __init__(self, frames, holes):
        self.frames, self.holes, self.asked = frames, holes, {}

    def __len__(self):
        return len(self.frames)

    def frame(self, i):
        self.asked[i] = self.asked.get(i, 0) + 1
        return self.frames[i]

    def hole(self, i):
        return self.holes[i]


def moving_texture(n=40, height=96, width=128, seed=0):
    """uint8 (n, height, width, 3): a smooth random texture that slides; no two frames are the same."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 4, (width + 2 * n) // 8 + 4, 3), np.uint8)
    big = cv2.resize(coarse, None, fx=8, fy=8, interpolation=cv2.INTER_LINEAR)
    return np.stack([big[i % 9 : i % 9 + height, 2 * i : 2 * i + width] for i in range(n)])


def write_clip(
    path,
    frames,
    codec="libx264",
    pix_fmt="yuv420p",
    rate=25,
    options=None,
    stamps=None,
    sound=None,
    tags=None,
):
    """Write uint8 (n, h, w, 3) RGB frames with PyAV.

    stamps: the time of each frame, counted in 1 / rate. sound: name of a codec, for a tone as long as the
    clip. tags: (colorspace, color_range, matrix name) of the pictures.
    """
    frames, rate = np.asarray(frames), Fraction(rate)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pix_fmt
        stream.time_base = stream.codec_context.time_base = 1 / rate
        space, reach, matrix = tags or (None, None, "ITU601")
        if tags:
            stream.codec_context.colorspace, stream.codec_context.color_range = space, reach
        if sound:
            audio = container.add_stream(sound, rate=48000, layout="mono")
            audio.codec_context.open()
        for i, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
            if pix_fmt not in ("rgb24", "gbrp", "bgr0"):
                frame = frame.reformat(format=pix_fmt, dst_colorspace=matrix, dst_color_range=reach or 1)
            if tags:
                frame.colorspace, frame.color_range = space, reach
            frame.pts, frame.time_base = (stamps[i] if stamps else i), 1 / rate
            with usual_scheduling():
                packets = stream.encode(frame)
            container.mux(packets)
        container.mux(stream.encode())
        if sound:
            total = int(len(frames) / rate * 48000)
            kind = audio.codec_context.format.name
            for k in range(0, total, 1024):
                tone = np.sin(np.arange(k, k + 1024) * (440 * 2 * np.pi / 48000)) * 0.3
                scale, dtype = {"s16": (2**15, "i2"), "s32": (2**31, "i4")}.get(kind.rstrip("p"), (1, "f4"))
                piece = av.AudioFrame.from_ndarray((tone * scale).astype(dtype)[None], kind, "mono")
                piece.sample_rate, piece.pts, piece.time_base = 48000, k, Fraction(1, 48000)
                container.mux(audio.encode(piece))
            container.mux(audio.encode())
    return str(path)
