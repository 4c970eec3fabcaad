"""What diffusers loads with ``custom_pipeline="pipelines/videopainter"``."""

from videopainter.diffusion.pipeline import VideoPainterPipeline

__all__ = ["VideoPainterPipeline"]
