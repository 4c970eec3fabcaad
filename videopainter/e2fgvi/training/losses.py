"""What E2FGVI is trained with (Li et al. 2022, training objectives)."""

import torch.nn.functional as F
from torch import Tensor

_LEAST_SHARE = 1e-6  # of pixels; a clip without holes has no loss in them, rather than none that is a number


def reconstruction(painted: Tensor, frames: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """Mean absolute difference in the holes, and outside them.

    ``painted``, ``frames``: ``(b, t, 3, h, w)``; ``masks``: ``(b, t, 1, h, w)`` with 0 and 1, 1 = hole.
    """
    difference = (painted - frames).abs()
    hole, valid = (
        (difference * part).mean() / part.mean().clamp_min(_LEAST_SHARE) for part in (masks, 1 - masks)
    )
    return hole, valid


def flow_consistency(completed: tuple[Tensor, Tensor], true: tuple[Tensor, Tensor]) -> Tensor:
    """Completed flows against those of the frames without holes, forward and backward added.

    Each ``(n, 2, h, w)`` in pixels.
    """
    return sum(F.l1_loss(flow, target) for flow, target in zip(completed, true))


def hinge_of_discriminator(real: Tensor, painted: Tensor) -> Tensor:
    """What the discriminator learns from its answers: real ones above 1, painted ones under -1."""
    return (F.relu(1 - real).mean() + F.relu(1 + painted).mean()) / 2


def hinge_of_generator(painted: Tensor) -> Tensor:
    """What the generator learns from the discriminator's answers."""
    return -painted.mean()
