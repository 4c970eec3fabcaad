"""From a click to a mask in every frame."""

from .classical import BoxPrompt, ClickPrompt, TrackResult, track

__all__ = ["BoxPrompt", "ClickPrompt", "TrackResult", "track"]
