"""The table of engines: one row each, made of their specs, and the choice among them."""

from __future__ import annotations

from typing import Any

from videopainter.diffusion.spec import SPEC as VIDEOPAINTER
from videopainter.dstt.spec import SPEC as DSTT
from videopainter.e2fgvi.spec import SPEC as E2FGVI
from videopainter.engines.base import Cancelled, Engine, EngineError, EngineSpec, Progress
from videopainter.hybrid.spec import hybrid_spec
from videopainter.propagation.spec import SPEC as PROPAGATION
from videopainter.propainter.spec import SPEC as PROPAINTER
from videopainter.utils.devices import has_gpu

__all__ = [
    "ENGINES",
    "Cancelled",
    "Engine",
    "EngineError",
    "EngineSpec",
    "Progress",
    "choose_engine",
    "has_gpu",
    "load_engine",
    "option_names",
]

# The best first: "auto" takes the first that can run. `dstt` comes after `propagation`, so that "auto" never takes
# it: it is for live streams and cannot look ahead, which is worth some decibels wherever the whole film is there
# (benchmarks/results/dstt_quality.md).
ENGINES: dict[str, EngineSpec] = {}
ENGINES |= {
    spec.name: spec
    for spec in (
        VIDEOPAINTER,
        hybrid_spec(ENGINES),  # puts the others to work
        PROPAINTER,
        E2FGVI,
        PROPAGATION,
        DSTT,
    )
}


def choose_engine(name: str = "auto", with_prompt: bool = True, **options: Any) -> tuple[EngineSpec, str]:
    """(a row of the table, why it was taken in one line). Raises EngineError for an unknown name.

    "auto" takes the first that can run with these options, without a prompt none that needs one, and without a GPU
    none that is slow then.
    """
    if name != "auto":
        if name not in ENGINES:
            raise EngineError(f"There is no engine '{name}'; the names are auto, {', '.join(ENGINES)}.")
        return ENGINES[name], "as asked for"
    passed_over: list[tuple[str, str]] = []
    for spec in ENGINES.values():
        can_run, reason = spec.available(**options)
        if can_run and spec.needs_prompt and not with_prompt:
            can_run, reason = False, "needs a prompt"
        if can_run and spec.wants_gpu and not has_gpu():
            can_run, reason = False, "slow without a GPU"
        if can_run:
            others = f"; better ones cannot run here ({_grouped(passed_over)})" if passed_over else ""
            return spec, f"{reason}{others}"
        passed_over.append((spec.name, reason))
    raise EngineError(f"No engine can run here: {_grouped(passed_over)}.")


def load_engine(spec: EngineSpec, **options: Any) -> Engine:
    """`spec.load`; where that cannot run here the error names the engines that can."""
    can_run, reason = spec.available(**options)
    if can_run:
        return spec.load(**options)
    there = ", ".join(f"'{other.name}'" for other in ENGINES.values() if other.available()[0]) or "no other"
    raise EngineError(f"The engine '{spec.name}' cannot be used: {reason}; there is {there}.")


def option_names() -> set[str]:
    """The names of the options of all engines."""
    return {name for spec in ENGINES.values() for name in spec.option_names}


def _grouped(passed_over: list[tuple[str, str]]) -> str:
    by_reason: dict[str, list[str]] = {}
    for name, reason in passed_over:
        by_reason.setdefault(reason, []).append(name)
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())
