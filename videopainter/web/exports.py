"""What goes into a project and comes out of it as files, and what the page is told of the engines."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import tempfile
import typing
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from types import SimpleNamespace

import numpy as np

from videopainter.cli.flags import describe
from videopainter.engine import ENGINES, EngineError, EngineSpec, choose_engine
from videopainter.masks import MaskError, load_masks, pack, save_masks
from videopainter.segmentation import SEGMENTERS, choose_segmenter
from videopainter.segmentation.finders import FINDERS, spec_of
from videopainter.video import VideoError, VideoSource, VideoWriter
from videopainter.video.formats import codec_for, container_of
from videopainter.web import masking
from videopainter.web.prompts import COLOURS, MOST_OBJECTS
from videopainter.web.store import Outdated, Store, span

# How masks can be downloaded: name of the file -> format of `save_masks`; folders come as .zip.
MASK_FILES = {"masks.npz": "npz", "masks.zip": "png", "labels.zip": "davis", "masks.mp4": "video"}
ENDINGS = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif", ".zip")  # of results; .zip: a folder of images
MOST_ZIPPED = 200_000  # files in an uploaded .zip
MOST_UNZIPPED = 16 * 2**30  # bytes


def suffix(name: str) -> str:
    """The ending of an uploaded file's name, if it is one; nothing else of that name is ever used as a path."""
    ending = Path(name).suffix.lower()
    return ending if re.fullmatch(r"\.[a-z0-9]{1,8}", ending) else ""


def example() -> Path:
    """The clip of the example button."""
    return Path(__file__).parent / "static" / "example.mp4"


def sweep(store: Store) -> None:
    """Remove what a server that was killed left half-written, and projects that never came to be."""
    known = {one["id"] for one in store.projects()}
    for folder in (store.workspace / "projects").iterdir():
        if folder.name not in known:
            shutil.rmtree(folder, ignore_errors=True)
            continue
        for rest in (*folder.glob(".*.part"), *folder.glob("*/.*.part"), *folder.glob("uploads/*")):
            remove(rest)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def take_masks(
    store: Store, project: dict, path: Path, name: str, mask_id: int | None = None, invert: bool = False
) -> None:
    """A new object of the project from an uploaded file. Raises MaskError if it does not fit the video."""
    facts = project["facts"]
    extent = _Extent(facts["frames"], (facts["height"], facts["width"]))
    folder = None
    try:
        if path.suffix == ".zip":
            folder = _unzipped(path)
        masks = load_masks(folder or path, extent, mask_id, invert)
    except MaskError as error:
        # The page's user knows the file by its own name.
        raise MaskError(str(error).replace(str(folder or path), name)) from None
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    add_masks(store, project["id"], {name: masks})


def add_masks(store: Store, project: str, found: Mapping[str, Iterable[np.ndarray]], first: int = 0) -> None:
    """A new object for each name, with its masks of the frames from `first` on. Raises MaskError for too many."""
    while True:
        mark, objects, number = store.mark(project), store.objects(project), store.next_object(project)
        if len(objects) + len(found) > MOST_OBJECTS or number is None or number + len(found) > 256:
            raise MaskError(f"There would be more than {MOST_OBJECTS} objects; delete some.")
        for name, masks in found.items():
            store.forget_object(project, number)
            rows = ((i, pack(mask), float(mask.mean()), 1.0, "found") for i, mask in enumerate(masks, first))
            store.put_masks(project, "track", number, list(rows))
            objects.append(
                {
                    "id": number,
                    "name": name[:100] or f"Object {number}",
                    "colour": COLOURS[(number - 1) % len(COLOURS)],
                    "hidden": False,
                    "extent": None,
                    "prompts": [],
                }
            )
            number += 1
        try:
            return store.edit(project, objects, after=mark)
        except Outdated:  # the page was quicker
            continue


def give_masks(store: Store, project: dict, name: str) -> Path:
    """A file of the masks of all visible objects between the in and the out point; made anew, in the project."""
    if name not in MASK_FILES:
        raise MaskError(f"Masks come as {', '.join(MASK_FILES)}.")
    shown = [one["id"] for one in store.objects(project["id"]) if not one["hidden"]]
    tracks = {number: masking.mask_track(store, project, [number], span(project)) for number in shown}
    tracks = {number: track for number, track in tracks.items() if track.any()}
    if not tracks:
        raise MaskError("Nothing is selected yet.")
    folder = store.folder(project["id"]) / "exports"
    folder.mkdir(exist_ok=True)
    final = folder / name
    kind = MASK_FILES[name]
    with tempfile.TemporaryDirectory(dir=folder, prefix=".", suffix=".part") as part:
        made = Path(part) / Path(name).stem if name.endswith(".zip") else Path(part) / name
        united = masking.mask_track(store, project, list(tracks), span(project))
        save_masks(united if kind == "png" else tracks, made, kind, project["facts"]["fps"])
        if name.endswith(".zip"):
            made = Path(shutil.make_archive(str(made), "zip", made))
        os.replace(made, final)
    return final


def engine_card(spec: EngineSpec) -> dict:
    """What the page shows of an engine, and the fields of its options."""
    can_run, reason = spec.available()
    return {
        "name": spec.name,
        "summary": spec.summary,
        "needs": spec.needs,
        "available": can_run,
        "reason": str(reason),
        "takes_prompt": spec.takes_prompt,
        "needs_prompt": spec.needs_prompt,
        "dilate_size": spec.dilate_size,
        "max_seconds": spec.max_seconds,
        "options": [_option(spec, field) for field in dataclasses.fields(spec.options)],
    }


def check_engine(name: str, options: dict, prompt: str | None) -> None:
    """Raise EngineError unless that engine is there, can run, has these options, and a prompt if it needs one."""
    spec, _ = choose_engine(name, with_prompt=bool(prompt), **options)
    if unknown := set(options) - set(spec.option_names):
        raise EngineError(f"The engine '{spec.name}' has no option '{sorted(unknown)[0]}'.")
    # Files and folders are not named by requests: the engine takes those of the weights folder.
    if paths := [name for name in options if _option(spec, _field(spec, name))["type"] == "path"]:
        raise EngineError(f"The option '{paths[0]}' names a file; set it on the command line instead.")
    can_run, reason = spec.available(**options)
    if not can_run:
        raise EngineError(f"The engine '{spec.name}' cannot be used: {reason}.")
    if spec.needs_prompt and not prompt:
        raise EngineError(f"The engine '{spec.name}' needs a prompt that says what should be there.")


def segmenters() -> list[dict]:
    """What can follow objects, the best first."""
    return [
        {
            "name": spec.name,
            "needs": spec.needs,
            "available": spec.missing() is None,
            "reason": spec.missing() or "",
            "sizes": list(spec.sizes),
        }
        for spec in SEGMENTERS.values()
    ]


def check_segmenter(name: str, size: str) -> None:
    """Raise MaskError unless that segmenter is there, can run, and has this size."""
    spec, _ = choose_segmenter(name, size)
    if size != "auto" and size not in spec.sizes:
        raise MaskError(f"The segmenter '{spec.name}' has no size '{size}'.")
    if (reason := spec.missing()) is not None:
        raise MaskError(f"The segmenter '{spec.name}' cannot be used: {reason}.")


def finders() -> list[dict]:
    """What can be selected by its name alone."""
    return [
        {
            "name": spec.name,
            "what": spec.what,
            "available": spec.missing() is None,
            "reason": spec.missing() or "",
            "words": spec.words,  # it takes any, instead of its name
        }
        for spec in FINDERS.values()
    ]


def check_finder(name: str | None) -> None:
    """Raise MaskError unless everything of that name, or what these words say, can be looked for here."""
    if (missing := spec_of(name or "").missing()) is not None:
        raise MaskError(f"Selecting '{name}' cannot be done here: {missing}.")


def engines() -> list[dict]:
    """In the order of the table; `usual`: what runs here unless another is asked for, without a prompt."""
    usual = choose_engine("auto", with_prompt=False)[0].name
    return [{**engine_card(spec), "usual": spec.name == usual} for spec in ENGINES.values()]


def endings() -> list[dict]:
    """As what results can be written, and the codecs for each; the first is the usual one."""
    return [
        {"ending": ending, "codecs": list(container_of(f"result{_written(ending)}").codecs)}
        for ending in ENDINGS
    ]


def check_export(settings: dict) -> None:
    """Raise VideoError unless a file of that ending, codec and quality can be written."""
    if settings["ending"] not in ENDINGS:
        raise VideoError(f"Results come as {', '.join(ENDINGS)}, not '{settings['ending']}'.")
    codec_for(f"result{_written(settings['ending'])}", settings.get("codec"), 8)


def rewrite(
    source: VideoSource,
    folder: Path,
    ending: str,
    codec: str | None,
    quality: float | None,
    progress: Callable[[str, int, int], None],
) -> str:
    """Write the video `source` into `folder` with another ending; the name of the file. Sound and times come along."""
    made = folder / f"result{_written(ending)}"
    nothing = np.zeros(source.size, bool)
    writer = VideoWriter(
        made,
        source.fps,
        source.size,
        audio_from=source.path,
        times=source.times if source.variable_rate else None,
        codec=codec,
        quality=quality,
        colour=source.colour,
        pixel_format=source.pixel_format,
        aspect=source.aspect,
    )
    with writer:
        for i in range(len(source)):
            frame = source[i]  # what is stored can be asked for once the frame was read
            writer.write_over(source.stored(i), frame, nothing)
            progress("write", i + 1, len(source))
    if ending == ".zip":
        shutil.make_archive(str(made), "zip", made)
        shutil.rmtree(made)
    return f"result{ending}"


def _written(ending: str) -> str:
    return "" if ending == ".zip" else ending


class _Extent(SimpleNamespace):
    """The length and size that masks have to fit."""

    def __init__(self, count: int, size: tuple[int, int]):
        super().__init__(count=count, size=size, height=size[0], width=size[1])

    def __len__(self) -> int:
        return self.count


def _unzipped(path: Path) -> Path:
    """The images of a .zip in a folder of their own, under their base names alone."""
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix="unzipped"))
    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if not one.is_dir()]
            if len(members) > MOST_ZIPPED or sum(one.file_size for one in members) > MOST_UNZIPPED:
                raise MaskError(f"'{path}' holds more than is taken.")
            for one in members:
                name = PurePosixPath(one.filename.replace("\\", "/")).name
                if name in ("", ".", "..") or name.startswith("."):
                    continue
                with archive.open(one) as member, open(folder / name, "xb") as file:
                    shutil.copyfileobj(member, file)
    except FileExistsError:
        shutil.rmtree(folder, ignore_errors=True)
        raise MaskError(f"'{path}' has several images of one name; zip one folder of masks.") from None
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise MaskError(f"'{path}' cannot be read as a .zip file: {error}.") from None
    except MaskError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _field(spec: EngineSpec, name: str) -> dataclasses.Field:
    return next(field for field in dataclasses.fields(spec.options) if field.name == name)


def _option(spec: EngineSpec, field: dataclasses.Field) -> dict:
    annotation = str(typing.get_type_hints(spec.options)[field.name])
    kind = next((k for k in ("bool", "int", "float") if re.search(rf"\b{k}\b", annotation)), "str")
    if "PathLike" in annotation:
        kind = "path"
    default = field.default if isinstance(field.default, bool | int | float | str) else None
    return {
        "name": field.name,
        "help": describe(field),
        "type": kind,
        "default": default,
        "choices": list(field.metadata.get("choices") or ()) or None,
    }
