"""What other frames show is fetched, and only what none of them shows is generated."""

from importlib import import_module

_HOME = {"HybridEngine": "engine", "HybridOptions": "spec"}

__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'videopainter.hybrid' has no attribute '{name}'")
    return getattr(import_module(f"videopainter.hybrid.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
