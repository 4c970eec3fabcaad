"""Interlaced pictures: the lines of the first field stay, those between are drawn anew along the edges."""

from __future__ import annotations

from typing import Any

import av
import av.filter


class Deinterlacer:
    """Progressive frames of interlaced ones, each by itself, so that frames can be asked for in any order.

    `like`: an `av.VideoFrame` of the video.
    """

    def __init__(self, like: av.VideoFrame):
        self._graph = None
        self._like = like.width, like.height, like.format.name

    def __call__(self, frame: av.VideoFrame) -> av.VideoFrame:
        if (frame.width, frame.height, frame.format.name) != self._like:
            self._like = frame.width, frame.height, frame.format.name
        graph = av.filter.Graph()
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        # estdif looks at one picture only. It is asked for a frame a picture.
        draw = graph.add("estdif", "mode=frame:parity=auto:deint=all:interp=4p")
        sink = graph.add("buffersink")
        source.link_to(draw)
        draw.link_to(sink)
        graph.configure()
        source.push(frame)
        source.push(None)
        made: Any = sink.pull()
        made.pts = frame.pts
        for tag in ("colorspace", "color_range", "color_primaries", "color_trc"):
            setattr(made, tag, getattr(frame, tag))
        return made
