"""The engine without weights: pixels that other frames show are fetched from there, the rest is completed."""

from importlib import import_module

_HOME = {"PropagationEngine": "engine", "PropagationOptions": "spec"}

__all__ = list(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'videopainter.propagation' has no attribute '{name}'")
    return getattr(import_module(f"videopainter.propagation.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
