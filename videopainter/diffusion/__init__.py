"""VideoPainter: inpainting with CogVideoX-5b-I2V, a context branch and an ID adapter (arXiv 2503.05639)."""

from importlib import import_module

_HOME = {
    "IDPool": "id_pool",
    "VideoPainterBranchModel": "branch",
    "VideoPainterEngine": "engine",
    "VideoPainterPipeline": "pipeline",
    "VideoPainterTransformer3DModel": "transformer",
}

__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'videopainter.diffusion' has no attribute '{name}'")
    return getattr(import_module(f"videopainter.diffusion.{_HOME[name]}"), name)
