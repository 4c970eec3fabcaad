"""ID resampling without the keys whose values are zero.

The adapter was trained with one extra key for every token: that of the token where it is masked, and a zero vector
elsewhere, with a zero value. After the norm of the keys such a key is the norm's bias b, turned to the token's place j.
Its value adds nothing; it only enlarges the denominator of the softmax, by exp(q . R_j b / sqrt(width)). So attention
over the keys with values, times 1 / (1 + Z / exp(logsumexp)), is the same, where Z is the sum of those terms.

The rotation R_j turns three groups of channels by the token's frame, row and column, so that each term of Z is a
product of three exponentials, and Z a sum over a grid: next to nothing beside attention over all those keys.
"""

import math
from dataclasses import dataclass

import torch

SCORES_AT_ONCE = 1 << 25  # so that they take 128 MiB in float32


@dataclass(frozen=True)
class ZeroKeys:
    """Which keys are left out, for the attention of every block.

    positions: int64 ``[kept]``, ascending: tokens of the sequence (text, then video) that have an extra key.
    text: how many text tokens have none; their zero key is not turned.
    rest: float32, 1 for each video token that has none. ``[columns, frames * rows]`` with ``axes``, else ``[tokens]``.
    axes: for frames, rows and columns each complex ``[places, channel pairs]``, by which keys are turned; None where
        ``rotary`` is not made of such.
    rotary: complex ``[video tokens, head width / 2]``, or None where nothing is turned.
    """

    positions: torch.Tensor
    text: int
    rest: torch.Tensor
    axes: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None
    rotary: torch.Tensor | None

    @classmethod
    def build(
        cls,
        positions: torch.Tensor,
        text_length: int,
        rotary: torch.Tensor | None,
        video_tokens: int,
        grid: tuple[int, int, int] | None = None,
        kept_text: int = 0,
    ) -> "ZeroKeys":
        """Everything but ``positions``, on their device.

        kept_text: how many of the positions are text's.
        grid: (frames, rows, columns) of the tokens; only for `videopainter.diffusion.rotary`'s own tables, which are
            made of one table an axis.
        """
        rest = torch.ones(text_length + video_tokens, device=positions.device)
        rest = rest.index_fill(0, positions, 0.0)
        rest_video, axes = rest[text_length:], None
        if rotary is not None and grid is not None:
            frames, rows, columns = grid
            table = rotary.reshape(frames, rows, columns, -1)
            width = 2 * table.shape[-1]
            first, second = width // 8, width // 8 + width // 16 * 3
            axes = (table[:, 0, 0, :first], table[0, :, 0, first:second], table[0, 0, :, second:])
            rest_video = rest_video.reshape(frames * rows, columns).T.contiguous()
        return cls(positions, text_length - kept_text, rest_video, axes, rotary)

    def gate(self, query: torch.Tensor, bias: torch.Tensor | None, logsumexp: torch.Tensor) -> torch.Tensor:
        """By what attention without the zero keys is to be multiplied, ``[batch, tokens, heads, 1]``.

        Args:
            query: ``[batch, tokens, heads, head width]``, normed and turned.
            bias: of the norm of the keys, ``[head width]``; None for zero.
            logsumexp: of the scaled scores with the keys that have values, ``[batch, tokens, heads]``.
        """
        kind = logsumexp.dtype
        if bias is None:
            count = self.text + self.rest.sum()
            return torch.sigmoid(logsumexp - count.to(kind).log())[..., None]
        keys = self._keys(bias.to(kind))
        flat = query.flatten(0, 2)
        out = logsumexp.flatten()
        columns = self.rest.shape[-1] if self.axes is None else self.rest.shape[-1] + sum(map(len, self.axes))
        at_once = max(1, SCORES_AT_ONCE // columns)
        parts = [
            torch.sigmoid(sums - self._log_sum(queries.to(kind), bias.to(kind), keys))
            for queries, sums in zip(flat.split(at_once), out.split(at_once))
        ]
        return torch.cat(parts).reshape(*logsumexp.shape, 1)

    def _keys(self, bias: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The bias turned to every place, transposed: one table an axis, or one for all tokens."""
        if self.rotary is None:
            return (bias[:, None],)
        pairs = torch.view_as_complex(bias.reshape(-1, 2))
        if self.axes is None:
            return (torch.view_as_real(pairs * self.rotary).flatten(1).T,)
        widths = [axis.shape[1] for axis in self.axes]
        return tuple(
            torch.view_as_real(part * axis).flatten(1).T for part, axis in zip(pairs.split(widths), self.axes)
        )

    def _log_sum(
        self, query: torch.Tensor, bias: torch.Tensor, keys: tuple[torch.Tensor, ...]
    ) -> torch.Tensor:
        """Log of the sum of exp(scaled score) over all keys left out, ``[queries]``."""
        scale = 1 / math.sqrt(query.shape[1])
        text = (query @ bias) * scale + (math.log(self.text) if self.text else -math.inf)
        if self.rotary is None:
            scores = (query @ keys[0])[:, 0] * scale
            return torch.logaddexp(text, scores + self.rest.sum().to(query.dtype).log())
        if self.axes is None:
            scores = (query @ keys[0]) * scale
            most = scores.amax(1)
            total = (scores.sub_(most[:, None]).exp_() @ self.rest.to(query.dtype)).log()
            return torch.logaddexp(text, total + most)
        parts = query.split([key.shape[0] for key in keys], dim=1)
        scores = [(part @ key) * scale for part, key in zip(parts, keys)]
        most = [score.amax(1) for score in scores]
        frames, rows, columns = (score.sub_(top[:, None]).exp_() for score, top in zip(scores, most))
        by_row = (columns @ self.rest.to(query.dtype)).unflatten(1, (frames.shape[1], rows.shape[1]))
        by_frame = torch.matmul(by_row, rows[:, :, None])[..., 0]
        total = (by_frame * frames).sum(1).log()
        return torch.logaddexp(text, total + most[0] + most[1] + most[2])


def attend_with_sums(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention ``[batch, tokens, heads, head width]`` and its logsumexp ``[batch, tokens, heads]``.

    By the kernels of `F.scaled_dot_product_attention`, which keep the sums to themselves.
    """
    query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
    if query.device.type == "cpu":
        out, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, key, value)
    elif _flash(query, key, value):
        out, sums = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)[:2]
    else:
        out, sums = torch.ops.aten._scaled_dot_product_efficient_attention(query, key, value, None, True)[:2]
        sums = sums[:, :, : query.shape[2]]  # padded for the backward pass
    return out.transpose(1, 2), sums.transpose(1, 2)


def _flash(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> bool:
    params = torch.backends.cuda.SDPAParams(query, key, value, None, 0.0, False, False)
    return torch.backends.cuda.flash_sdp_enabled() and torch.backends.cuda.can_use_flash_attention(params)
