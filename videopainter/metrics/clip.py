"""What CLIP says of a video: how well it fits its text, and how steady it is from frame to frame."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from transformers import AutoTokenizer, CLIPModel

from videopainter.ops.resize import resize
from videopainter.weights import WeightsError

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's pictures, 0 to 1
STD = (0.26862954, 0.26130258, 0.27577711)


class ClipMeasures:
    """CLIP from a folder or a name of the Hugging Face Hub, such as openai/clip-vit-large-patch14.

    Raises WeightsError, one sentence, if it is not there.
    """

    def __init__(self, model: str | os.PathLike, device: str = "cpu"):
        try:
            self.model = CLIPModel.from_pretrained(model).to(device).eval()
            self.tokenizer = AutoTokenizer.from_pretrained(model)
        except (OSError, ValueError) as error:
            raise WeightsError(
                f"CLIP cannot be loaded from '{model}': {str(error).splitlines()[0]}"
            ) from None
        self.device = device

    @torch.no_grad()
    def pictures(
        self, frames: Sequence[np.ndarray], masks: Sequence[np.ndarray] | None = None
    ) -> torch.Tensor:
        """Features of length 1, ``(n, width)``, of uint8 ``(h, w, 3)``; outside ``masks`` they are black."""
        size = self.model.config.vision_config.image_size
        prepared = []
        for i, frame in enumerate(frames):
            shown = frame if masks is None else frame * masks[i][..., None].astype(np.uint8)
            prepared.append(_square(shown, size))
        pixels = torch.from_numpy(np.stack(prepared)).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(one).reshape(1, 3, 1, 1) for one in (MEAN, STD))
        features = self.model.get_image_features(pixel_values=((pixels - mean) / std).to(self.device))
        return _unit(features)

    @torch.no_grad()
    def text(self, text: str) -> torch.Tensor:
        """Its features of length 1, ``(1, width)``; what is too long for CLIP is cut off."""
        longest = self.model.config.text_config.max_position_embeddings
        tokens = self.tokenizer(text, truncation=True, max_length=longest, return_tensors="pt").to(
            self.device
        )
        return _unit(self.model.get_text_features(**tokens))

    def similarity(self, frames, text: str, masks=None) -> float:
        """Mean over frames of 100 times the cosine, 0 where it is below: CLIP similarity as published."""
        cosines = self.pictures(frames, masks) @ self.text(text).T
        return float((100 * cosines).clamp(min=0).mean())

    def consistency(self, frames, masks=None) -> float | None:
        """Mean cosine of each frame and the next; None for a single frame."""
        features = self.pictures(frames, masks)
        return float((features[1:] * features[:-1]).sum(1).mean()) if len(features) > 1 else None


def _unit(features) -> torch.Tensor:
    features = getattr(features, "pooler_output", features)
    return (features / features.norm(dim=-1, keepdim=True)).float()


def _square(frame: np.ndarray, size: int) -> np.ndarray:
    """CLIP's picture: the shorter side to ``size``, the middle cut out."""
    height, width = frame.shape[:2]
    scale = size / min(height, width)
    rows, columns = max(size, int(height * scale)), max(size, int(width * scale))
    resized = resize(np.ascontiguousarray(frame), (rows, columns), "pillow-bicubic")
    top, left = (rows - size) // 2, (columns - size) // 2
    return resized[top : top + size, left : left + size]
