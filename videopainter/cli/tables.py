"""Tables for the documentation, made of the engines' specs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from videopainter.cli.flags import describe
from videopainter.engine import ENGINES, EngineSpec


def engine_table() -> str:
    """The engines in Markdown, as the README has them."""
    rows = [
        (
            f"`{spec.name}`",
            spec.summary,
            spec.needs,
            f"{spec.dilate_size:g}",
            "all" if spec.target_fps is None else f"{spec.target_fps:g}",
            "all" if spec.max_seconds is None else f"{spec.max_seconds:g}",
        )
        for spec in ENGINES.values()
    ]
    return _table(("engine", "what it is", "needs", "dilation", "frames a second", "seconds"), rows)


def option_table(spec: EngineSpec) -> str:
    """The options of an engine in Markdown: argument, flags, what it does."""
    rows = []
    for field in dataclasses.fields(spec.options):
        flags = [f"`--{name}`" for name in (field.name, *field.metadata.get("aliases", ()))]
        rows.append((f"`{field.name}`", ", ".join(flags), describe(field)))
    return _table(("option", "flags", "meaning"), rows)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return (
        "\n".join(f"| {' | '.join(line)} |" for line in lines)
        .replace("| --- ", "|---")
        .replace("--- |", "---|")
    )
