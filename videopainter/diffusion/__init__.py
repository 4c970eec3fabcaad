"""VideoPainter: inpainting with CogVideoX-5b-I2V, a context branch and an ID adapter (arXiv 2503.05639)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "id_pool": ["IDPool"],
        "branch": ["VideoPainterBranchModel"],
        "engine": ["VideoPainterEngine"],
        "pipeline": ["VideoPainterPipeline"],
        "transformer": ["VideoPainterTransformer3DModel"],
    },
)
