"""The loss of a run as a picture."""

from __future__ import annotations

import io


def draw_curve(losses: list[float], scores: list[tuple[int, dict[str, float]]]) -> bytes:
    """A PNG: the loss of every update, its running mean, and below it the scores of validations."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2 if scores else 1, figsize=(8, 6 if scores else 3.5), squeeze=False)
    upper = axes[0][0]
    updates = range(1, len(losses) + 1)
    upper.plot(updates, losses, linewidth=0.5, alpha=0.5, label="update")
    means, mean = [], None
    for loss in losses:
        mean = loss if mean is None else 0.98 * mean + 0.02 * loss
        means.append(mean)
    upper.plot(updates, means, label="running mean")
    upper.set(xlabel="update", ylabel="loss")
    upper.legend()
    if scores:
        lower = axes[1][0]
        for name in scores[0][1]:
            lower.plot(
                [step for step, _ in scores], [found.get(name) for _, found in scores], "o-", label=name
            )
        lower.set(xlabel="update")
        lower.legend()
    figure.tight_layout()
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    pyplot.close(figure)
    return file.getvalue()
