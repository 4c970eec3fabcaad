"""The table of mask formats, and reading and writing by it.

A new format is a class (see `MaskFormat`) and its name in `FORMATS`.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from videopainter.masks.arrays import GivenMasks
from videopainter.masks.base import MaskFormat
from videopainter.masks.fit import check_shape, places, scaled
from videopainter.masks.images import DavisFolder, ImageFolder, StillImage
from videopainter.masks.npz import NpzMasks
from videopainter.masks.objects import ObjectFolders
from videopainter.masks.track import MaskError, MaskTrack, by, pack
from videopainter.masks.video import MaskVideo

# The first that claims a path reads it, so the one that takes any file stands last.
FORMATS: dict[str, type[MaskFormat]] = {
    form.name: form for form in (NpzMasks, ObjectFolders, ImageFolder, DavisFolder, StillImage, MaskVideo)
}
LISTED_LABELS = 20


def load_masks(
    masks, source, mask_id: int | None = None, invert: bool = False, exact: bool = False
) -> MaskTrack:
    """Masks for `source` (anything with `len` and `size` = (height, width)) from a path, or from memory.

    Paths: a folder of images, one a frame, sorted as people count (`2.png` before `10.png`); a folder of such folders,
    each named by an object's number; one image, the same mask in every frame; an image file of several pages, or an
    animated one; `.npz` and `.npy`, never unpickled; a video.
    In memory: a `MaskTrack`, arrays or tensors (height, width) or (frames, height, width) with or without channels, an
    image of Pillow, or a list of those.

    What the values mean is told from all masks together (see `meaning_of`): alpha that varies is the mask; a palette
    of colours and small whole numbers are labels, of which 0 keeps; in everything else what is bright is repainted,
    above a level between the dark and the bright.

    `mask_id` picks one label; without it every label but 0 is repainted. `invert` repaints everything else.
    Masks of another size but of the frames' proportions are scaled. Where there are more or fewer masks than frames,
    those are matched by the end, by names or by time if that is possible, unless `exact`; the `notes` of the result
    say what was done.

    Raises MaskError if the masks cannot be read, fit neither the number nor the shape of the frames, lack that
    label, mark nothing at all or everything.
    """
    if mask_id is not None and mask_id < 0:
        raise MaskError(f"A mask id is 0 or more, not {mask_id}.")
    form = open_masks(masks) if isinstance(masks, str | os.PathLike) else GivenMasks(masks, len(source))
    track = _picked(form, source, mask_id, exact)
    if invert:
        track = track.invert()
    share = track.share()
    if share == 0:
        raise MaskError(
            f"The masks in '{form.path}' mark no pixel in any frame, so there is nothing to repaint."
        )
    if share == 1:
        raise MaskError(
            f"The masks in '{form.path}' mark every pixel of every frame, so nothing would be kept."
        )
    return track


def open_masks(path) -> MaskFormat:
    """What is at `path`, opened in its format. Raises MaskError if it is not there or cannot be read."""
    path = Path(path)
    if not path.exists():
        raise MaskError(f"There are no masks at '{path}'.")
    form = next((form for form in FORMATS.values() if form.claims(path)), None)
    if form is None:
        raise MaskError(f"'{path}' is no file but a pipe or a device, which cannot be read as masks.")
    return form(path)


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
            index is the object's number, as DAVIS has them; "objects" is a folder of PNGs for each
            object, also where there is one.
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
    check_new(path, format)
    form = _format_for(path, format)
    if form is ImageFolder and len(objects) > 1:
        form = ObjectFolders
    form.write(objects, path, fps)


def check_new(path: Path, format: str | None = None) -> None:
    """Raises MaskError, before there are any masks, if they cannot be saved at `path`; see `save_masks`."""
    form = _format_for(path, format)
    if form in (ObjectFolders, ImageFolder, DavisFolder):
        if path.is_file():
            raise MaskError(f"The folder for masks, '{path}', is a file.")
        if path.is_dir() and any(path.iterdir()):
            raise MaskError(f"The folder '{path}' is not empty; masks are saved in one of their own.")
    elif path.is_dir():
        raise MaskError(f"Masks cannot be saved as {form.what} at '{path}', which is a folder.")
    elif path.suffix.lower() not in form.suffixes:
        raise MaskError(f"A file of masks that is {form.what} ends in {form.suffixes[0]}, not as '{path}'.")
    elif form is StillImage:
        raise MaskError(f"'{path}' is one image, which holds one mask; name a folder instead.")


def _format_for(path: Path, name: str | None) -> type[MaskFormat]:
    if name is not None:
        if name not in FORMATS:
            raise MaskError(f"There is no mask format '{name}'; the names are {', '.join(FORMATS)}.")
        return FORMATS[name]
    for form in FORMATS.values():
        if form.claims_new(path):
            return form
    raise MaskError(f"Masks cannot be saved as '{path}'; end it in .npz or .mp4, or name a folder.")


def _picked(form: MaskFormat, source, mask_id: int | None, exact: bool) -> MaskTrack:
    if mask_id is not None and not form.has_labels:
        raise MaskError(
            f"'{form.path}' is read as {form.what}, which has no labels, so mask id {mask_id} cannot be picked."
        )
    size = tuple(source.size)
    placed, note = places(form, source, exact)
    notes = [] if note is None else [note]
    differs = check_shape(form, 0, form.size, source)
    if isinstance(form, GivenMasks) and form.track is not None and note is None and not differs:
        return form.track
    marked: list[bytes] = []
    for i, labels in enumerate(form.frames() if mask_id is None else form.labels()):
        mask = labels != 0 if mask_id is None else labels == mask_id
        if check_shape(form, i, mask.shape, source):
            if len(notes) == (note is not None):
                notes.append(f"The masks in '{form.path}' are scaled from {by(mask.shape)} to {by(size)}.")
            mask = scaled(mask, size)
        marked.append(pack(mask))
    found = MaskTrack(marked, size)
    if mask_id is not None and not found.any():
        _no_such_label(mask_id, form)
    nothing = pack(np.zeros(size, bool))
    track = MaskTrack([nothing if i is None else marked[i] for i in placed], size)
    track.notes = notes
    return track


def _no_such_label(mask_id: int, form: MaskFormat) -> None:
    found = sorted(set().union(*(np.unique(labels).tolist() for labels in form.labels())) - {0})
    listed = ", ".join(str(int(label)) for label in found[:LISTED_LABELS])
    listed += ", ..." if len(found) > LISTED_LABELS else ""
    raise MaskError(
        f"There is no label {mask_id} in '{form.path}'; it has {listed or 'only 0, the background'}."
    )
