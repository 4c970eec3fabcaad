"""E2FGVI and E2FGVI-HQ; everything is imported when it is first asked for."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "configuration": ["E2FGVIConfig"],
        "model": ["E2FGVIModel"],
        "engine": ["E2FGVIEngine"],
    },
)
