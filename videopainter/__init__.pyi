# The public names: what `videopainter` offers, and where it is. Read by type checkers, and by __init__.py.
from .engine import ENGINES, Engine, EngineError
from .inpaint import InpaintResult, inpaint_video
from .masks import MaskError, MaskTrack, load_masks
from .segmentation.prompts import BoxPrompt, ClickPrompt
from .video import ArraySource, VideoError, VideoSource, VideoWriter, open_video

__version__: str

__all__ = [
    "ENGINES",
    "ArraySource",
    "BoxPrompt",
    "ClickPrompt",
    "Engine",
    "EngineError",
    "InpaintResult",
    "MaskError",
    "MaskTrack",
    "VideoError",
    "VideoSource",
    "VideoWriter",
    "__version__",
    "inpaint_video",
    "load_masks",
    "open_video",
]
