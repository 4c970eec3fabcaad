"""ProPainter under its Hugging Face names; everything is imported when it is first asked for."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
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
