"""What an engine is: all that the spine asks of one, and what an engine may use to answer.

To add an engine, make a folder with two files and add one row to `videopainter.engine.ENGINES`:

    spec.py     SPEC = EngineSpec(name=..., location="videopainter.mine.engine:MyEngine", options=MyOptions, ...)
                where MyOptions is a frozen dataclass whose fields are made with `option`; imports nothing heavy
    engine.py   class MyEngine: `spec`, `options`, `__call__` and `close` as `Engine` has them

Flags, `--help`, the tables of the documentation and error texts follow from the spec, and
`tests/engines/test_engine_contract.py` says what every engine must do.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np

# Called as progress(stage, done, total). Stages of the spine: "read", "select", "effects", "inpaint", "write". It may
# be called again with the same numbers, so that whoever listens can stop a long step; it stops one by raising
# `Cancelled`.
Progress = Callable[[str, int, int], None]

# Called as confidence(i, map) before frame `i` is given out: uint8 (height, width), 0 where no other frame shows what
# the hole hides, 1 (a poor match) to 255 where one does, 255 outside the hole.
Confidence = Callable[[int, "np.ndarray"], None]

_BEAT_SECONDS = 0.1  # between two calls of a listener from within one step


class EngineError(ValueError):
    """An engine that is not there, or lacks something it needs, in one sentence."""


class Cancelled(Exception):
    """The run was ended on request; nothing is wrong with it. Raised by a listener to progress, or for it."""


@dataclass(frozen=True)
class NoOptions:
    """The options of an engine that has none."""


def option(default: Any, help: str, **more: Any) -> Any:
    """A field of an options dataclass, with what flags and tables need to know about it.

    Args:
        default: its value unless the user says otherwise.
        help: what it does, in a few words, without the default.
        default_text: what the default comes to, where that is None or not the whole story.
        aliases: second names of its flag.
        metavar: what stands for the value in `--help`; None: nothing special.
        type: makes the value from the flag's text; None: what the annotation says.
        choices: the values that make sense, for people and pages; the engine itself refuses others.
        const: the value of a flag that is given without one; only then it may be.
    """
    known = {"default_text", "aliases", "metavar", "type", "choices", "const"}
    if unknown := set(more) - known:
        raise TypeError(f"option() got an unexpected keyword argument '{sorted(unknown)[0]}'")
    return dataclasses.field(default=default, metadata={"help": help, **more})


def _never_missing(**options: Any) -> str | None:
    return None


@dataclass(frozen=True)
class EngineSpec:
    """All that is known of an engine before it is loaded, and all that the spine may ask of a loaded one.

    Args:
        name: by which users choose it.
        location: "module:Class" of the engine, imported when it is loaded; called with options as keywords.
        summary: what it does, in a few words, for tables.
        needs: what it takes to run, as in "needs a GPU".
        options: a frozen dataclass of its options, made with `option`.
        missing: called with those options that the user has set; why it cannot run on this machine, in a clause,
            or None.
        working_size: (height, width) it works at; None: any.
        dilate_size: pixels by which masks grow unless the user says otherwise; see `inpaint_video`.
        target_fps, max_seconds: frames a second and seconds it works on unless the user says otherwise; None: all.
        takes_prompt: it repaints after a text, and needs one unless `prompt_optional`.
        takes_region: it is better off with the hole and its surroundings than with the whole picture.
        wants_first_frame: it is called with `first_frame`, a finished one, uint8 (height, width, 3).
        wants_gpu: it runs without one, but too slowly for "auto" to choose it.
        tells_confidence: it can be called with `confidence`, a `Confidence`, and tells how sure it is of every pixel.
        made_of: engines that it puts to work; it takes their options, too, and hands them on.
        unit: what its progress counts.
    """

    name: str
    location: str = ""
    summary: str = ""
    needs: str = ""
    options: type = NoOptions
    missing: Callable[..., str | None] = _never_missing
    working_size: tuple[int, int] | None = None
    dilate_size: float = 24
    target_fps: float | None = None
    max_seconds: float | None = None
    takes_prompt: bool = False
    prompt_optional: bool = False
    takes_region: bool = False
    wants_first_frame: bool = False
    wants_gpu: bool = False
    tells_confidence: bool = False
    made_of: tuple[EngineSpec, ...] = ()
    unit: str = "frame"

    @property
    def needs_prompt(self) -> bool:
        """Whether it cannot do without a text."""
        return self.takes_prompt and not self.prompt_optional

    @property
    def option_names(self) -> tuple[str, ...]:
        """The names of its options, in their order."""
        return tuple(field.name for field in dataclasses.fields(self.options))

    def known(self, options: dict[str, Any]) -> dict[str, Any]:
        """Those of `options` that it or one of those it is made of has."""
        names = {name for spec in (self, *self.made_of) for name in spec.option_names}
        return {name: value for name, value in options.items() if name in names}

    def available(self, **options: Any) -> tuple[bool, str]:
        """(whether it can run here with these options, the reason in a few words); options of others may be given."""
        reason = self.missing(**self.known(options))
        return (True, f"needs {self.needs}") if reason is None else (False, reason)

    def load(self, **options: Any) -> Engine:
        """Import and make the engine; options of others may be given. Raises EngineError if it cannot run here."""
        can_run, reason = self.available(**options)
        if not can_run:
            raise EngineError(f"The engine '{self.name}' cannot be used: {reason}.")
        module, name = self.location.split(":")
        return getattr(import_module(module), name)(**self.known(options))


@runtime_checkable
class Engine(Protocol):
    """Inpaints holes. It says how it likes its work, and never writes a file, prints or draws.

    spec: its `EngineSpec`, with what depends on options and weights (`working_size`, `wants_first_frame`) filled in.
    options: the options it was made with, an instance of `spec.options`, with what it has chosen itself filled in.
    """

    spec: EngineSpec
    options: Any

    def __call__(
        self,
        source,
        masks,
        prompt: str | None = None,
        generator: np.random.Generator | None = None,
        progress: Progress | None = None,
    ) -> Iterator[np.ndarray]:
        """Yield len(source) finished frames in order, uint8 (height, width, 3) RGB at the source's size.

        Args:
            source: a `VideoSource`, from which it reads as it goes.
            masks: a `MaskTrack` of the same length and size, True = repaint.
            prompt: what should be there; engines without text leave it aside.
            generator: the only source of chance, so that a seed gives the same video again.
            progress: called as progress("inpaint", done, total), with done from 0 to total, never less than before,
                and several times a second. What it raises ends the run and comes out of the iterator.
            first_frame: uint8 (height, width, 3), only where `spec.wants_first_frame`.
            confidence: only where `spec.tells_confidence`; called for every frame, in order.

        Raises EngineError, one sentence, for what cannot be done.
        """
        ...

    def close(self) -> None:
        """Let go of networks and memory; may be called twice. Called again, the engine loads anew or raises."""
        ...


def spec_of(engine: Any) -> EngineSpec:
    """The spec of an engine; of an object that only has a name and can be called, what its name stands for."""
    return getattr(engine, "spec", None) or EngineSpec(getattr(engine, "name", type(engine).__name__))


def check_masks(source, masks) -> None:
    """Raise EngineError unless there is a mask of the source's size for each of its frames."""
    if len(masks) != len(source) or tuple(masks.size) != tuple(source.size):
        raise EngineError(
            f"There are {len(masks)} masks of {tuple(masks.size)} for {len(source)} frames of {tuple(source.size)} "
            f"(height, width)."
        )


class StepReport:
    """How far an engine is, told to a listener.

    Args:
        progress: the listener, or None.
        total: steps in all.
    """

    def __init__(self, progress: Progress | None, total: int):
        self._progress, self.total, self._done = progress, total, 0
        self._last_told = float("-inf")

    def reached(self, done: int) -> None:
        """`done` steps are done; less than before (work begun anew) counts as no change."""
        self._done = max(self._done, done)
        self._tell()

    def beat(self) -> None:
        """Work goes on within a step: the listener hears of it a few times a second, and can stop it."""
        if time.monotonic() - self._last_told >= _BEAT_SECONDS:
            self._tell()

    def _tell(self) -> None:
        self._last_told = time.monotonic()
        if self._progress is not None:
            self._progress("inpaint", self._done, self.total)


@contextmanager
def listening(networks, beat: Callable[[], None]) -> Iterator[None]:
    """Call `beat` before each layer of some torch networks works, as long as this lasts; None among them is left out.

    Compiled blocks are left alone: a call into Python would break them to pieces.
    """
    handles = []

    def attach(network) -> None:
        if getattr(network, "_compiled_call_impl", None) is not None:
            return
        parts = list(network.children())
        if not parts:
            handles.append(network.register_forward_pre_hook(lambda layer, inputs: beat()))
        for part in parts:
            attach(part)

    try:
        for network in networks:
            if network is not None:
                attach(network)
        yield
    finally:
        for handle in handles:
            handle.remove()
