"""E2FGVI and E2FGVI-HQ; everything is imported when it is first asked for."""

from importlib import import_module

_HOME = {
    "E2FGVIConfig": "configuration",
    "E2FGVIModel": "model",
    "E2FGVIEngine": "engine",
}

__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'videopainter.e2fgvi' has no attribute '{name}'")
    return getattr(import_module(f"videopainter.e2fgvi.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
