"""Take things out of videos, and put other things in.

    import videopainter
    videopainter.inpaint_video("holiday.mp4", clicks=[(310, 205)], output="without_him.mp4")

Everything below is imported when it is first asked for, so `import videopainter` costs nothing.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "inpaint_video": "inpaint",
    "InpaintResult": "inpaint",
    "select_object": "inpaint",
    "Selection": "inpaint",
    "DEFAULT": "utils.default",
    "open_video": "video",
    "VideoSource": "video",
    "ArraySource": "video",
    "VideoWriter": "video",
    "VideoError": "video",
    "MaskTrack": "masks",
    "MaskError": "masks",
    "load_masks": "masks",
    "ENGINES": "engine",
    "Engine": "engine",
    "EngineError": "engine",
    "EngineSpec": "engine",
    "Cancelled": "engine",
    "ClickPrompt": "segmentation.prompts",
    "BoxPrompt": "segmentation.prompts",
}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'videopainter' has no attribute '{name}'")
    return getattr(import_module(f"videopainter.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
