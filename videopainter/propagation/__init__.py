"""The engine without weights: pixels that other frames show are fetched from there, the rest is completed."""

from videopainter.propagation.engine import PropagationEngine

__all__ = ["PropagationEngine"]
