"""What the engine `hybrid` is and takes; imports nothing heavy.

It puts other engines together, so it stands above them: it knows their specs, and the spine's stations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from videopainter.diffusion.spec import SPEC as VIDEOPAINTER
from videopainter.e2fgvi.spec import SPEC as E2FGVI
from videopainter.engines.base import EngineSpec, option
from videopainter.propagation.spec import GRAINS
from videopainter.propagation.spec import SPEC as PROPAGATION
from videopainter.propainter.spec import SPEC as PROPAINTER

# The first tells its confidence; the second paints whatever it is given.
BASES = (PROPAGATION.name, PROPAINTER.name)
GENERATORS = (VIDEOPAINTER.name, PROPAINTER.name, E2FGVI.name)


@dataclass(frozen=True)
class HybridOptions:
    """Options of `HybridEngine`; those of the engines that it puts to work come on top."""

    base: str = option(
        BASES[0], f"what fetches pixels that other frames show: {' or '.join(BASES)}", choices=BASES
    )
    generator: str = option(
        GENERATORS[0],
        f"what makes up pixels that no frame shows: {', '.join(GENERATORS)}",
        choices=GENERATORS,
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


def missing(
    engines: Mapping[str, EngineSpec], base: str | None = None, generator: str | None = None, **options: Any
) -> str | None:
    """Why it cannot run on this machine with the engines of a table, in a clause, or None."""
    base, generator = base or BASES[0], generator or GENERATORS[0]
    if base not in BASES:
        return f"its base is {' or '.join(BASES)}, not '{base}'"
    if generator not in GENERATORS:
        return f"its generator is {' or '.join(GENERATORS)}, not '{generator}'"
    if base == generator:
        return f"its base and its generator are both '{base}'"
    for name in (base, generator):
        can_run, reason = engines[name].available(**options)
        if not can_run:
            return f"'{name}' cannot run: {reason}"
    return None


def hybrid_spec(engines: Mapping[str, EngineSpec]) -> EngineSpec:
    """The row of a table whose other engines it puts to work."""
    return EngineSpec(
        name="hybrid",
        location="videopainter.hybrid.engine:HybridEngine",
        summary="`propagation` for what other frames show, `videopainter` only for what none does",
        needs="a GPU and the weights of `videopainter`, or of another generator",
        options=HybridOptions,
        missing=partial(missing, engines),
        # As the base has it: its material, too, is what other frames show.
        dilate_size=24,
        takes_prompt=True,
        prompt_optional=True,
        wants_gpu=True,
        tells_confidence=True,
        made_of=(VIDEOPAINTER, PROPAINTER, E2FGVI, PROPAGATION),
    )
