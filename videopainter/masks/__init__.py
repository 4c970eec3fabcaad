"""Masks: which pixels of each frame are to be repainted, in every format people keep them in.

A `MaskTrack` is to masks what a `VideoSource` is to frames, and is stored compressed: a minute of 1080p masks
takes a few megabytes, so a long track sits in memory while its video never does.
"""

from videopainter.masks.base import MaskFormat
from videopainter.masks.formats import FORMATS, count_masks, load_masks, open_masks, save_masks
from videopainter.masks.images import IMAGE_SUFFIXES, LOSSY_SUFFIXES, sorted_images
from videopainter.masks.morphology import bounding_box, dilate, touching
from videopainter.masks.track import MaskCountError, MaskError, MaskTrack, pack, unpack

__all__ = [
    "FORMATS",
    "IMAGE_SUFFIXES",
    "LOSSY_SUFFIXES",
    "MaskCountError",
    "MaskError",
    "MaskFormat",
    "MaskTrack",
    "bounding_box",
    "count_masks",
    "dilate",
    "load_masks",
    "open_masks",
    "pack",
    "save_masks",
    "sorted_images",
    "touching",
    "unpack",
]
