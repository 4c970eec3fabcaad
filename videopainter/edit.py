"""Editing: another thing in the place of one, as an instruction says, rather than nothing.

    videopainter.edit_video("street.mp4", "make the car red", clicks=[(310, 205)], output="red.mp4")

VideoPainter wants to know what the finished video shows. That is given (`target_caption`), or made of a caption of the
video and the instruction: by a template, or by whatever `Captioner` one has. Nothing is asked over a network.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Protocol

from videopainter.inpaint import InpaintResult, inpaint_video

DILATE_SIZE = 48  # as published: what comes may be larger than what was there

_ARTICLE = r"(?:the|this|that|a|an|his|her|its|their|my)"
_INTO = rf"(?:change|turn|transform|convert|make|replace|swap|edit)\s+(?:{_ARTICLE}\s+)?(?P<old>.+?)\s+"
_PATTERNS = (
    # "change the colour of the car to red"
    re.compile(
        rf"change\s+(?:the\s+)?colou?r\s+of\s+(?:{_ARTICLE}\s+)?(?P<old>.+?)\s+(?:in)?to\s+(?P<like>.+)", re.I
    ),
    # "turn the lamp into a small tree", "replace the dog with a cat"
    re.compile(rf"{_INTO}(?:into|to\s+be|to|with|by|look\s+like|become)\s+(?P<new>.+)", re.I),
    # "make the car a tank"
    re.compile(rf"make\s+(?:{_ARTICLE}\s+)?(?P<old>.+?)\s+(?P<new>an?\s+.+)", re.I),
    # "make the car red", "paint the wall dark green"
    re.compile(rf"(?:make|paint|dye|colou?r|turn)\s+(?:{_ARTICLE}\s+)?(?P<old>.+?)\s+(?P<like>(?:(?:dark|light|bright|pale"
               r"|deep|very)\s+)?\S+)", re.I),
)  # fmt: skip


class Captioner(Protocol):
    """Says what an edited video shows: of a caption of the video (None: there is none) and an instruction."""

    def __call__(self, source_caption: str | None, instruction: str) -> str: ...


@dataclass(frozen=True)
class EditPrompts:
    """caption: what the edited video shows. thing: what the edited region shows. old: what is there now, if the
    instruction says so."""

    caption: str
    thing: str
    old: str | None = None


def edit_prompts(
    instruction: str,
    source_caption: str | None = None,
    target_caption: str | None = None,
    captioner: Captioner | None = None,
) -> EditPrompts:
    """What VideoPainter is told for an instruction such as "make the car red" or "turn the lamp into a small tree".

    Args:
        source_caption: what the video shows; the thing's words in it are replaced.
        target_caption: what the edited video shows, instead of any making.
        captioner: makes the target caption; None: a template.

    Raises ValueError without an instruction.
    """
    told = " ".join(instruction.split()).rstrip(".!")
    if not told:
        raise ValueError("An edit needs an instruction, such as: make the car red.")
    old, thing = _read(told)
    if target_caption is None:
        caption = captioner(source_caption, told) if captioner else _caption(source_caption, old, thing)
    else:
        caption = target_caption
    return EditPrompts(caption.strip(), thing, old)


def _read(instruction: str) -> tuple[str | None, str]:
    """(what is there now, what comes in its place); the instruction itself where it is of another form."""
    for pattern in _PATTERNS:
        match = pattern.fullmatch(instruction)
        if match is None:
            continue
        found = match.groupdict()
        old = found["old"].strip()
        if found.get("new"):
            return old, found["new"].strip()
        return old, _with_article(f"{found['like'].strip()} {old}")
    return None, instruction


def _with_article(words: str) -> str:
    return f"{'an' if words[:1].lower() in 'aeiou' else 'a'} {words}"


def _caption(source: str | None, old: str | None, thing: str) -> str:
    if not source:
        return _sentence(thing)
    if old is not None:
        place = re.compile(rf"(?:\b{_ARTICLE}\s+)?\b{re.escape(old)}\b", re.I)
        if place.search(source):
            return _sentence(place.sub(lambda match: thing, source))
    return f"{source.rstrip()} {_sentence(thing)}"


def _sentence(words: str) -> str:
    words = words[:1].upper() + words[1:]
    return words if words.endswith((".", "!", "?")) else f"{words}."


def edit_video(
    video,
    instruction: str,
    masks=None,
    *,
    clicks=None,
    select: str | None = None,
    source_caption: str | None = None,
    target_caption: str | None = None,
    captioner: Captioner | None = None,
    engine: Any = "videopainter",
    dilate_size: float = DILATE_SIZE,
    **options: Any,
) -> InpaintResult:
    """Put another thing in the place of one.

    Args:
        video, masks, clicks: as for `inpaint_video`; they say which thing.
        instruction, source_caption, target_caption, captioner: see `edit_prompts`.
        select: the thing in words, where there are neither masks nor clicks; None: as the instruction names it.
        engine: "videopainter", or an `Engine` that takes a prompt.
        dilate_size: as for `inpaint_video`; larger than for removal, as the new thing may be.
        options: others of `inpaint_video`, and of the engine. The first frame is FLUX's with the edited thing as prompt
            where its weights are there, else VideoPainter's own: the propagation engine would take the thing away.

    Raises ValueError as `inpaint_video` does, and where nothing says which thing is meant.
    """
    prompts = edit_prompts(instruction, source_caption, target_caption, captioner)
    given = bool(clicks) or masks is not None
    if not given and (select or prompts.old) is None:
        raise ValueError(f"Say which thing is edited: '{instruction}' does not name it.")
    return inpaint_video(
        video,
        masks,
        clicks=clicks,
        select=None if given else select or prompts.old,
        prompt=prompts.caption,
        engine=engine,
        dilate_size=dilate_size,
        **{**engine_options(engine, prompts), **options},
    )


def engine_options(engine: Any, prompts: EditPrompts) -> dict[str, Any]:
    """What VideoPainter's first frame is to be in an edit; nothing for other engines, and ones that are loaded."""
    if engine != "videopainter":
        return {}
    from videopainter.weights import complete_set

    first_frame = "flux" if complete_set("flux") else "none"
    return {"first_frame": first_frame, "first_frame_prompt": prompts.thing}


class TransformersCaptioner:
    """A local language model of transformers as `Captioner`.

    Args:
        model: a folder, or a name on the Hugging Face Hub, of a model that follows instructions.
    """

    def __init__(self, model: str, device: str | None = None):
        from transformers import pipeline

        self._generate = pipeline("text-generation", model=model, device=device)

    def __call__(self, source_caption: str | None, instruction: str) -> str:
        asked = (
            "Rewrite the description of a video as it is after an edit. Answer with the new description only.\n"
            f"Description: {source_caption or 'a video'}\nEdit: {instruction}\nNew description:"
        )
        said = self._generate(asked, max_new_tokens=200, do_sample=False, return_full_text=False)
        return said[0]["generated_text"].strip().split("\n")[0]
