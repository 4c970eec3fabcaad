"""Videos as people have them, made with PyAV and small: how frames are timed, what their pixels mean, what sounds."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np
from clips import moving_texture
from PIL import Image

COUNT, SIZE = 12, (96, 128)
UNEVEN = [0, 1, 2, 3, 12, 13, 14, 20, 21, 22, 23, 30]  # in hundredths of a second times 4


@dataclass
class Pictures:
    """How pictures are stored. `tags`: matrix, primaries, transfer, range as libav numbers them."""

    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    tags: tuple[int, int, int, int] = (6, 6, 6, 1)
    size: tuple[int, int] = SIZE
    rate: Fraction = Fraction(25)
    stamps: list[int] | None = None  # in a clock of 1 / 100
    aspect: Fraction | None = None
    options: dict = field(default_factory=dict)
    matrix: str | int = "ITU601"
    blind: bool = False  # write the order of decoding as time stamps
    interlaced: bool = False


def picture_of(rgb: np.ndarray, kind: Pictures) -> av.VideoFrame:
    """One frame in the format of `kind`; alpha, where it has some, is a ramp."""
    height, width = rgb.shape[:2]
    if "a" in kind.pix_fmt.replace("gray", ""):
        ramp = np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8), (height, width))
        frame = av.VideoFrame.from_ndarray(np.dstack([rgb, ramp]), format="rgba")
    else:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
    if kind.pix_fmt not in ("rgb24", "gbrp", "rgba", "bgr0"):
        frame = frame.reformat(
            format=kind.pix_fmt, dst_colorspace=kind.matrix, dst_color_range=max(1, kind.tags[3])
        )
    elif kind.pix_fmt != "rgb24":
        frame = frame.reformat(format=kind.pix_fmt)
    if kind.pix_fmt not in ("rgb24", "gbrp", "rgba", "bgr0"):
        frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range = kind.tags
    return frame


def write(path, kind: Pictures, sound=(), subtitles=(), words=None, chapters=(), frames=None) -> str:
    """A file of moving pictures and what accompanies them.

    sound: (codec, rate, layout, language, default?) of each track, a tone of its own. subtitles: (codec, language).
    """
    frames = moving_texture(COUNT, *kind.size) if frames is None else frames
    with av.open(str(path), "w") as container:
        container.metadata.update(words or {})
        stream = container.add_stream(kind.codec, rate=kind.rate, options=kind.options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], kind.pix_fmt
        base = Fraction(1, 100) if kind.stamps else 1 / kind.rate
        context = stream.codec_context
        stream.time_base = context.time_base = base
        if not kind.pix_fmt.startswith(("rgb", "gbr", "bgr")):
            context.colorspace, context.color_primaries, context.color_trc, context.color_range = kind.tags
        if kind.aspect:
            context.sample_aspect_ratio = kind.aspect
        if kind.interlaced:
            context.flags |= 0x20040000  # interlaced DCT and motion estimation
        tracks = []
        for codec, rate, layout, language, default in sound:
            options = {"strict": "experimental"} if codec == "truehd" else {}
            track = container.add_stream(codec, rate=rate, options=options)
            track.layout = layout
            track.metadata["language"] = language
            track.codec_context.open()
            if default:
                track.disposition = av.stream.Disposition.default
            tracks.append(track)
        texts = []
        for codec, language in subtitles:
            texts.append(container.add_stream(codec))
            texts[-1].metadata["language"] = language
            texts[-1].codec_context.subtitle_header = b"[Script Info]\n\n[V4+ Styles]\n\n[Events]\n"
        if chapters:
            container.set_chapters(list(chapters))
        seconds = float(kind.stamps[-1] / 100 + 0.04 if kind.stamps else len(frames) / kind.rate)
        decoded = 0

        def mux(packets):
            nonlocal decoded
            for packet in packets:
                if kind.blind:
                    packet.pts = packet.dts = decoded
                    decoded += 1
                container.mux(packet)

        for i, rgb in enumerate(frames):
            frame = picture_of(rgb, kind)
            frame.pts, frame.time_base = kind.stamps[i] if kind.stamps else i, base
            mux(stream.encode(frame))
        mux(stream.encode())
        for number, track in enumerate(tracks):
            tone(container, track, seconds, 300 + 150 * number)
        for number, (track, (codec, _)) in enumerate(zip(texts, subtitles)):
            say(container, track, codec, f"Word {number}", seconds)
    return str(path)


def tone(container, track, seconds: float, pitch: float) -> None:
    context = track.codec_context
    rate, channels, kind = context.sample_rate, context.channels, context.format
    step = context.frame_size or 1024
    times = np.arange(0, max(step, round(seconds * rate) // step * step)) / rate
    wave = np.stack([np.sin(2 * np.pi * times * pitch * (1 + c / 2)) / (2 + 6 * c) for c in range(channels)])
    scale, dtype = {"s16": (2**15, "i2"), "s32": (2**31, "i4")}.get(kind.name.rstrip("p"), (1, "f4"))
    wave = (wave * scale).astype(dtype)
    for k in range(0, wave.shape[1], step):
        piece = wave[:, k : k + step]
        piece = piece if kind.is_planar else piece.T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(piece), kind.name, context.layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, k, Fraction(1, rate)
        container.mux(track.encode(frame))
    container.mux(track.encode())


def say(container, track, codec: str, text: str, seconds: float) -> None:
    data = text.encode()
    if codec == "mov_text":
        data = len(data).to_bytes(2, "big") + data
    elif codec == "ass":
        data = b"0,0,Default,,0,0,0,," + data
    packet = av.Packet(data)
    packet.stream, packet.time_base = track, Fraction(1, 1000)
    packet.pts = packet.dts = 80
    packet.duration = round(seconds * 1000) - 120
    container.mux(packet)


def glued(path, kind: Pictures) -> str:
    """The same stream twice, one after the other: the clock starts anew."""
    one = write(path, kind, sound=[("aac", 48000, "stereo", "eng", True)])
    data = open(one, "rb").read()
    with open(one, "wb") as file:
        file.write(data + data)
    return one


def growing(path) -> str:
    """A stream whose pictures become larger on the way."""
    parts = []
    for size in (SIZE, (144, 192)):
        part = f"{path}.{size[0]}.ts"
        write(part, Pictures(size=size, options={"g": "6"}))
        parts.append(open(part, "rb").read())
    with open(path, "wb") as file:
        file.write(b"".join(parts))
    return str(path)


def images(path, mode="RGB", suffix="png") -> str:
    path.mkdir()
    for i, rgb in enumerate(moving_texture(COUNT, *SIZE)):
        picture = Image.fromarray(rgb).convert(mode)
        if mode == "RGBA":
            picture.putalpha(Image.linear_gradient("L").resize(picture.size))
        picture.save(path / f"{i}.{suffix}")
    return str(path)


def deep_images(path) -> str:
    """PNGs of 16 bits a channel."""
    import cv2

    path.mkdir()
    for i, rgb in enumerate(moving_texture(COUNT, *SIZE)):
        cv2.imwrite(str(path / f"{i}.png"), rgb[..., ::-1].astype(np.uint16) * 257)
    return str(path)


def animation(path) -> str:
    frames = [Image.fromarray(rgb) for rgb in moving_texture(COUNT, *SIZE)]
    spent = [40] * 6 + [200] + [40] * 5
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=spent, loop=0)
    return str(path)
