"""The flags that give an engine its options, made of the specs in the table; nothing heavy is imported."""

from __future__ import annotations

import argparse
import dataclasses
import types
import typing
from collections.abc import Callable
from typing import Any

from videopainter.engine import ENGINES, EngineSpec, option_names


def add_engine_flags(parser: argparse.ArgumentParser) -> None:
    """A flag for every option of every engine, None where it is not given.

    An option that several engines have under one name is one flag, in a group that names them.
    """
    groups: dict[tuple[str, ...], argparse._ArgumentGroup] = {}
    for name, owners in _owners().items():
        engines = tuple(spec.name for spec in owners)
        if engines not in groups:
            title = f"{engines[0]} only" if len(engines) == 1 else _listed(engines)
            groups[engines] = parser.add_argument_group(title)
        fields = [_field(spec, name) for spec in owners]
        names = dict.fromkeys(alias for f in fields for alias in (name, *f.metadata.get("aliases", ())))
        parse = [_parsing(spec, f) for spec, f in zip(owners, fields)]
        if any(
            (one.get("type"), one.get("action")) != (parse[0].get("type"), parse[0].get("action"))
            for one in parse
        ):
            raise TypeError(
                f"The option '{name}' is of another type in one of the engines {_listed(engines)}."
            )
        help = "; ".join(dict.fromkeys(describe(f) for f in fields)).replace("%", "%%")
        flags = [f"--{one}" for one in names]
        groups[engines].add_argument(*flags, dest=name, default=None, help=help, **parse[0])


def given_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options that were given, by name."""
    values = {name: getattr(args, name) for name in sorted(option_names())}
    return {name: value for name, value in values.items() if value is not None}


def engine_help() -> str:
    """What `--engine` takes."""
    return f"{', '.join(ENGINES)}, or auto: the best that can run here (default: auto)"


def defaults_text(name: str, unit: str = "{:g}", nothing: str = "all") -> str:
    """The engines' own values of a setting, as in "videopainter 8, others all"."""
    by_value: dict[str, list[str]] = {}
    for spec in ENGINES.values():
        value = getattr(spec, name)
        by_value.setdefault(nothing if value is None else unit.format(value), []).append(spec.name)
    most = max(by_value, key=lambda text: len(by_value[text]))
    special = [f"{_listed(engines)} {text}" for text, engines in by_value.items() if text != most]
    return ", ".join([*special, f"others {most}" if special else most])


def describe(field: dataclasses.Field) -> str:
    """The help of an option with its default."""
    text = field.metadata.get("default_text")
    if text is None and field.default is not None and field.default is not False:
        text = field.default
    return field.metadata["help"] + (f" (default: {text})" if text is not None else "")


def _owners() -> dict[str, list[EngineSpec]]:
    """The engines that have an option, by its name, in the order of the table."""
    found: dict[str, list[EngineSpec]] = {}
    for spec in ENGINES.values():
        for name in spec.option_names:
            found.setdefault(name, []).append(spec)
    return found


def _field(spec: EngineSpec, name: str) -> dataclasses.Field:
    return next(field for field in dataclasses.fields(spec.options) if field.name == name)


def _parsing(spec: EngineSpec, field: dataclasses.Field) -> dict[str, Any]:
    """How argparse makes the option's value from text."""
    annotation = typing.get_type_hints(spec.options)[field.name]
    more = {"metavar": field.metadata["metavar"]} if field.metadata.get("metavar") else {}
    if "const" in field.metadata:
        more |= {"nargs": "?", "const": field.metadata["const"]}
    kind = field.metadata.get("type") or _type_of(annotation)
    if kind is bool:  # what is on where nothing is said gets a second flag, --no-NAME
        return {"action": "store_true" if field.default is False else argparse.BooleanOptionalAction}
    return {"type": kind, **more}


def _type_of(annotation: Any) -> Callable[[str], Any]:
    """bool, int, float or str, whichever is the first that a type or a union of types names."""
    parts = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return next((kind for kind in (bool, int, float) if kind in parts), str)


def _listed(names: typing.Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
