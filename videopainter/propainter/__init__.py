"""ProPainter under its Hugging Face names; everything is imported when it is first asked for."""

from importlib import import_module

_HOME = {
    "ProPainterConfig": "configuration",
    "ProPainterVideoProcessor": "video_processing",
    "ProPainterImageProcessor": "video_processing",
    "ProPainterModel": "modeling",
    "ProPainterOutput": "modeling",
    "ProPainterForImageInPainting": "modeling",
    "ProPainterForImageOutPainting": "modeling",
    "ProPainterEngine": "engine",
}

__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'videopainter.propainter' has no attribute '{name}'")
    return getattr(import_module(f"videopainter.propainter.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
