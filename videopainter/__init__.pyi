# The public names: what `videopainter` offers, and where it is. Read by type checkers, and by __init__.py.
from .edit import edit_video
from .engine import ENGINES, Cancelled, Engine, EngineError, EngineSpec
from .inpaint import InpaintResult, Selection, inpaint_video, select_object
from .masks import MaskError, MaskTrack, load_masks, save_masks
from .segmentation.prompts import BoxPrompt, ClickPrompt, MaskPrompt, PolygonPrompt
from .utils.default import DEFAULT
from .video import ArraySource, VideoError, VideoSource, VideoWriter, open_video

__version__: str

__all__ = [
    "DEFAULT",
    "ENGINES",
    "ArraySource",
    "BoxPrompt",
    "Cancelled",
    "ClickPrompt",
    "Engine",
    "EngineError",
    "EngineSpec",
    "InpaintResult",
    "MaskError",
    "MaskPrompt",
    "MaskTrack",
    "PolygonPrompt",
    "Selection",
    "VideoError",
    "VideoSource",
    "VideoWriter",
    "__version__",
    "edit_video",
    "inpaint_video",
    "load_masks",
    "open_video",
    "save_masks",
    "select_object",
]
