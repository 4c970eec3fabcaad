"""From a click to a mask in every frame."""

from .classical import track
from .prompts import BoxPrompt, ClickPrompt, TrackResult

__all__ = ["BoxPrompt", "ClickPrompt", "TrackResult", "track"]
