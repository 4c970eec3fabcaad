"""The table of mask formats, and reading and writing by it.

A new format is a class (see `MaskFormat`) and its name in `FORMATS`.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from videopainter.masks.base import MaskFormat
from videopainter.masks.images import DavisFolder, ImageFolder, StillImage
from videopainter.masks.npz import NpzMasks
from videopainter.masks.track import MaskCountError, MaskError, MaskTrack, by
from videopainter.masks.video import MaskVideo

# The first that claims a path reads it, so the one that takes any file stands last.
FORMATS: dict[str, type[MaskFormat]] = {
    form.name: form for form in (NpzMasks, ImageFolder, DavisFolder, StillImage, MaskVideo)
}
LISTED_LABELS = 20


def load_masks(path, source, mask_id: int | None = None, invert: bool = False) -> MaskTrack:
    """Masks for `source` (anything with `len` and `size` = (height, width)) from a file or folder.

    - `.npz`: `arr_0`, integers (frames, height, width); a map of labels. Never unpickled.
    - a folder of images, one a frame, sorted as people count (`2.png` before `10.png`). The palette index or
      the grey level is the label.
    - one image: the same mask in every frame.
    - a video: brighter than 127 is repainted.

    `mask_id` picks one label; without it every label but 0 is repainted. `invert` repaints everything else.
    Raises MaskError if the masks cannot be read, fit neither the number nor the size of the frames, lack that
    label, or mark nothing at all.
    """
    if mask_id is not None and mask_id < 0:
        raise MaskError(f"A mask id is 0 or more, not {mask_id}.")
    masks = _picked(open_masks(path), source, mask_id)
    if invert:
        masks = masks.invert()
    if not masks.any():
        raise MaskError(f"The masks in '{path}' mark no pixel in any frame, so there is nothing to repaint.")
    return masks


def open_masks(path) -> MaskFormat:
    """What is at `path`, opened in its format. Raises MaskError if it is not there or cannot be read."""
    path = Path(path)
    if not path.exists():
        raise MaskError(f"There are no masks at '{path}'.")
    return next(form for form in FORMATS.values() if form.claims(path))(path)


def count_masks(path) -> int | None:
    """How many masks there are, without reading them; None for one image, or where none can be read."""
    try:
        return open_masks(path).count
    except MaskError:
        return None


def save_masks(
    masks: MaskTrack | Mapping[int, MaskTrack],
    path: str | os.PathLike,
    format: str | None = None,
    fps: float = 25,
) -> None:
    """Write masks so that `load_masks` reads them again; whole or not at all.

    Args:
        masks: a track, or several, object number (1 to 255) -> track of the same length and size.
        path: `x.npz` (labels), `x.mp4` (white on black, all objects together), or a folder that is new or empty:
            grey PNGs, for several objects in a folder each.
        format: a name of `FORMATS` instead of what the ending says; "davis" is a folder of PNGs whose palette
            index is the object's number, as DAVIS has them.
        fps: frames a second of a mask video.

    Raises MaskError for an ending or a format that is not known, no masks, or masks that do not fit together.
    """
    path = Path(path)
    objects = {1: masks} if isinstance(masks, MaskTrack) else dict(masks)
    if not objects or not len(next(iter(objects.values()))):
        raise MaskError("There are 0 masks to save; at least one is needed.")
    extents = {(len(track), track.size) for track in objects.values()}
    if len(extents) > 1:
        listed = " and ".join(f"{count} of {by(size)}" for count, size in sorted(extents))
        raise MaskError(f"The objects' masks do not fit together: there are {listed}.")
    _format_for(path, format).write(objects, path, fps)


def _format_for(path: Path, name: str | None) -> type[MaskFormat]:
    if name is not None:
        if name not in FORMATS:
            raise MaskError(f"There is no mask format '{name}'; the names are {', '.join(FORMATS)}.")
        return FORMATS[name]
    for form in FORMATS.values():
        if form.claims_new(path):
            return form
    raise MaskError(f"Masks cannot be saved as '{path}'; end it in .npz or .mp4, or name a folder.")


def _picked(form: MaskFormat, source, mask_id: int | None) -> MaskTrack:
    if mask_id is not None and not form.has_labels:
        raise MaskError(
            f"'{form.path}' is read as a mask video, which has no labels, so mask id {mask_id} cannot be picked."
        )
    if form.count is not None:
        _check_count(form.path, form.count, source)
    _check_size(form.path, form.size, source)

    def masks():
        for i, labels in enumerate(form.frames()):
            _check_size(form.file_of(i), labels.shape, source)
            yield labels != 0 if mask_id is None else labels == mask_id

    track = MaskTrack.build(masks())
    if mask_id is not None and not track.any():
        _no_such_label(mask_id, form)
    return track if form.count is not None else MaskTrack.still(track[0], len(source))


def _no_such_label(mask_id: int, form: MaskFormat) -> None:
    found = sorted(set().union(*(np.unique(labels).tolist() for labels in form.frames())) - {0})
    listed = ", ".join(str(int(label)) for label in found[:LISTED_LABELS])
    listed += ", ..." if len(found) > LISTED_LABELS else ""
    raise MaskError(
        f"There is no label {mask_id} in '{form.path}'; it has {listed or 'only 0, the background'}."
    )


def _check_count(path: Path, count: int, source) -> None:
    if count != len(source):
        raise MaskCountError(f"'{path}' has {count} masks, but the video has {len(source)} frames.")


def _check_size(path: Path, size: tuple[int, int], source) -> None:
    if tuple(size) != tuple(source.size):
        raise MaskError(
            f"The masks in '{path}' are {by(size)} (width x height), but the video is {by(source.size)}."
        )


def check_fit(path, count: int, size: tuple[int, int], source) -> None:
    """Raise MaskError, naming both numbers, unless `source` has `count` frames of `size`."""
    _check_count(path, count, source)
    _check_size(path, size, source)
