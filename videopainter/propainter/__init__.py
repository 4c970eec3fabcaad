"""ProPainter under its Hugging Face names; everything is imported when it is first asked for.

With any of those names transformers' AutoConfig, AutoModel, AutoProcessor and so on come to know ProPainter.
"""

from importlib import import_module

import lazy_loader

_find, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "configuration": ["ProPainterConfig"],
        "video_processing": ["ProPainterVideoProcessor", "ProPainterImageProcessor"],
        "modeling": [
            "ProPainterModel",
            "ProPainterOutput",
            "ProPainterForImageInPainting",
            "ProPainterForImageOutPainting",
        ],
        "engine": ["ProPainterEngine"],
    },
)


def __getattr__(name: str):
    found = _find(name)
    if name.startswith("ProPainter") and name != "ProPainterEngine":
        for module in ("modeling", "video_processing"):  # which register themselves
            import_module(f"{__name__}.{module}")
    return found
