"""From a click to a mask in every frame."""

from videopainter.segmentation.classical.tracker import track
from videopainter.segmentation.prompts import BoxPrompt, ClickPrompt, TrackResult

__all__ = ["BoxPrompt", "ClickPrompt", "TrackResult", "track"]
