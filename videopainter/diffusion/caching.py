"""Which of diffusers' caches the transformer takes; the others are refused before they fail in the middle of a call."""

from diffusers.hooks import HookRegistry
from diffusers.models.cache_utils import CacheMixin

# Class of the configuration -> why it is not taken. Named, as not every version of diffusers has all of them.
REFUSED = {
    "FasterCacheConfig": "it leaves out the rows of the negative prompt, which the branch's samples and the mask have, "
    "or, for distilled guidance, attention that it has not yet seen",
    "SeaCacheConfig": "it needs the noise levels of flow matching, which CogVideoX's schedulers do not have",
    "TextKVCacheConfig": "CogVideoX's blocks change their text, so that its keys and values cannot be kept",
}


class CheckedCacheMixin(CacheMixin):
    """`enable_cache` of diffusers, for what works here."""

    def enable_cache(self, config) -> None:
        """As in diffusers. Raises ValueError for a cache that cannot work here, or keeps nothing."""
        kind = type(config).__name__
        if kind in REFUSED:
            raise ValueError(f"VideoPainter's transformer does not take a {kind}: {REFUSED[kind]}.")
        before = _hooks(self)
        super().enable_cache(config)
        if _hooks(self) == before:
            self._cache_config = None
            raise ValueError(
                f"This {kind} names no module of VideoPainter's transformer, and would keep nothing."
            )


def _hooks(network) -> int:
    """Hooks in a network and its modules."""
    registries = (getattr(module, "_diffusers_hook", None) for module in network.modules())
    return sum(len(one.hooks) for one in registries if isinstance(one, HookRegistry))
