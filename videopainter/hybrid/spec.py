"""What the engine `hybrid` is and takes; imports nothing heavy.

It puts other engines together, so it stands above them: it knows their specs, and the spine's stations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from videopainter.diffusion.spec import SPEC as VIDEOPAINTER
from videopainter.e2fgvi.spec import SPEC as E2FGVI
from videopainter.engines.base import EngineSpec, option
from videopainter.propagation.spec import GRAINS
from videopainter.propagation.spec import SPEC as PROPAGATION
from videopainter.propainter.spec import SPEC as PROPAINTER

# What can be the first, which tells its confidence, and the second, the best first.
BASES = {spec.name: spec for spec in (PROPAGATION, PROPAINTER)}
GENERATORS = {spec.name: spec for spec in (VIDEOPAINTER, PROPAINTER, E2FGVI)}


@dataclass(frozen=True)
class HybridOptions:
    """Options of `HybridEngine`; those of the engines that it puts to work come on top."""

    base: str = option(
        "propagation",
        f"what fetches pixels that other frames show: {' or '.join(BASES)}",
        choices=tuple(BASES),
    )
    generator: str = option(
        "auto",
        f"what makes up pixels that no frame shows: {', '.join(GENERATORS)}, or auto: the first that can run here",
        choices=("auto", *GENERATORS),
    )
    threshold: float = option(
        0.2, "0 to 1: what is fetched with less confidence counts as not seen", metavar="CONFIDENCE"
    )
    least_share: float = option(
        0.01, "0 to 1: where less of the hole than this was never seen, nothing is generated", metavar="SHARE"
    )
    least_pixels: int = option(
        64, "in a 480-line picture: smaller patches are left as the base fills them", metavar="PIXELS"
    )
    grain: str = option(
        "auto", "noise for what is filled: auto, as much as around it, or off", choices=GRAINS
    )


def find_generator(
    name: str | None, base: str | None = None, **options: Any
) -> tuple[EngineSpec | None, str]:
    """(the engine that generates, None if there is none, why) for the options ``generator`` and ``base``."""
    if name not in (None, "auto"):
        can_run, reason = GENERATORS[name].available(**options)
        return (GENERATORS[name], reason) if can_run else (None, f"'{name}' cannot run here: {reason}")
    passed_over = []
    for spec in GENERATORS.values():
        can_run, reason = spec.available(**options)
        if can_run and spec.name != base:
            return spec, reason
        passed_over.append(f"{spec.name}: {'it is the base' if can_run else reason}")
    return None, f"nothing here can generate ({'; '.join(passed_over)})"


def missing(base: str | None = None, generator: str | None = None, **options: Any) -> str | None:
    """Why it cannot run on this machine, in a clause, or None."""
    if base is not None and base not in BASES:
        return f"its base is {' or '.join(BASES)}, not '{base}'"
    if generator not in (None, "auto", *GENERATORS):
        return f"its generator is {', '.join(GENERATORS)} or auto, not '{generator}'"
    if base is not None and base == generator:
        return f"its base and its generator are both '{base}'"
    can_run, reason = BASES[base or "propagation"].available(**options)
    if not can_run:
        return f"its base '{base}' cannot run here: {reason}"
    found, reason = find_generator(generator, base, **options)
    return None if found else reason


SPEC = EngineSpec(
    name="hybrid",
    location="videopainter.hybrid.engine:HybridEngine",
    summary="what other frames show is fetched as by `propagation`, only what none shows is generated",
    needs="a GPU and the weights of `videopainter`, `propainter` or `e2fgvi`",
    options=HybridOptions,
    missing=missing,
    # As the base has it: its material, too, is what other frames show.
    dilate_size=24,
    takes_prompt=True,
    prompt_optional=True,
    wants_gpu=True,
    tells_confidence=True,
    made_of=(PROPAGATION, PROPAINTER, E2FGVI, VIDEOPAINTER),
)
