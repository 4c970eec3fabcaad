"""Words to boxes with GroundingDINO (Liu et al. 2023, arXiv:2303.05499), through transformers' implementation.

Our own preprocessing, as transformers' needs torchvision.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import GroundingDinoForObjectDetection

from videopainter.masks import MaskError
from videopainter.segmentation.pixels import normalised
from videopainter.segmentation.pretrained import read_pretrained
from videopainter.segmentation.words.boxes import Found, thinned
from videopainter.segmentation.words.phrases import read_tokenizer

SHORT, LONG = 800, 1333  # sides of the picture that the network sees, at most


class Dino:
    """Finds things in single frames.

    Args:
        folder: in transformers' format, with `tokenizer.json`.
        words: what to look for, each in lower case.
        device: None: the GPU where there is one.

    Raises WeightsError for weights that cannot be used, MaskError for more words than the network takes.
    """

    def __init__(self, folder: str | os.PathLike, words: Sequence[str], device: str | None = None):
        folder = Path(folder)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model = read_pretrained(GroundingDinoForObjectDetection, folder, "GroundingDINO").to(device)
        self.ids, self.spans = _tokens(read_tokenizer(folder / "tokenizer.json"), words)
        most = self.model.config.max_text_len
        if len(self.ids) > most:
            raise MaskError(
                f"These words are {len(self.ids)} pieces, but GroundingDINO takes {most} at most."
            )

    @torch.inference_mode()
    def __call__(self, frame: np.ndarray) -> list[Found]:
        """What is seen in a frame, uint8 (height, width, 3) RGB; the surest first."""
        height, width = frame.shape[:2]
        device = self.model.device
        ids = torch.tensor([self.ids], device=device)
        pixels = normalised(frame, _working_size(height, width)).to(device)[None]
        seen = self.model(
            pixel_values=pixels,
            pixel_mask=torch.ones(pixels.shape[0], *pixels.shape[2:], dtype=torch.long, device=device),
            input_ids=ids,
            token_type_ids=torch.zeros_like(ids),
            attention_mask=torch.ones_like(ids),
        )
        chance = seen.logits[0].float().sigmoid()  # (boxes, tokens)
        scores = torch.stack([chance[:, span].amax(1) for span in self.spans], 1).cpu().numpy()
        middle, half = seen.pred_boxes[0].float().cpu().numpy().reshape(-1, 2, 2).transpose(1, 0, 2)
        edges = np.concatenate([middle - half / 2, middle + half / 2], 1) * [width, height, width, height]
        boxes = np.clip(edges - [0, 0, 1, 1], 0, [width - 1, height - 1, width - 1, height - 1])
        return thinned(boxes, scores)


def _tokens(tokenizer, words: Sequence[str]) -> tuple[list[int], list[slice]]:
    """(the ids of "word. word.", where each word's tokens stand among them)."""
    first, *last = tokenizer.encode("").ids
    ids, spans = [first], []
    stop = tokenizer.encode(".", add_special_tokens=False).ids
    for word in words:
        own = tokenizer.encode(word, add_special_tokens=False).ids
        spans.append(slice(len(ids), len(ids) + len(own)))
        ids += [*own, *stop]
    return [*ids, *last], spans


def _working_size(height: int, width: int) -> tuple[int, int]:
    scale = min(SHORT / min(height, width), LONG / max(height, width))
    return max(round(height * scale), 1), max(round(width * scale), 1)
