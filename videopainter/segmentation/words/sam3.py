"""Words to masks with SAM 3 (Carion et al. 2025, arXiv:2511.16719), through transformers' Sam3VideoModel.

It looks for the words in every frame and follows what it finds. Our own preprocessing, as transformers' needs
torchvision.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from transformers.models.sam3_video.modeling_sam3_video import Sam3VideoInferenceSession, Sam3VideoModel

from videopainter.segmentation.pixels import normalised
from videopainter.segmentation.pretrained import quiet, read_pretrained
from videopainter.segmentation.words.phrases import read_tokenizer

TOKENS = 32  # of each phrase
REACH = 16  # frames back to which the tracker attends
END = "<|endoftext|>"  # also what fills up a short phrase
LEVEL = (0.5, 0.5, 0.5)  # mean and deviation of the pixels, RGB in 0..1


class Sam3:
    """Masks of what words say, in every frame.

    Args:
        folder: in transformers' format, with `tokenizer.json`.
        words: what to look for.
        device: None: the GPU where there is one, in bfloat16.

    Raises WeightsError for weights that cannot be used.
    """

    def __init__(self, folder: str | os.PathLike, words: Sequence[str], device: str | None = None):
        folder = Path(folder)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.model = read_pretrained(Sam3VideoModel, folder, "SAM 3")
        self.model = self.model.to(device, torch.bfloat16 if device.startswith("cuda") else torch.float32)
        tokenizer = read_tokenizer(folder / "tokenizer.json")
        tokenizer.enable_truncation(TOKENS)
        tokenizer.enable_padding(length=TOKENS, pad_id=tokenizer.token_to_id(END) or 0, pad_token=END)
        self.words = [(word, tokenizer.encode(word)) for word in words]

    def masks(self, source) -> Iterator[tuple[int, dict[int, np.ndarray]]]:
        """(frame, object -> bool (height, width)) in order, of a `VideoSource`; objects count from 0."""
        model, side = self.model, self.model.config.image_size
        session = Sam3VideoInferenceSession(
            video_height=source.height,
            video_width=source.width,
            inference_device=model.device,
            inference_state_device=model.device,
            video_storage_device="cpu",
            dtype=model.dtype,
        )
        for word, encoded in self.words:
            number = session.add_prompt(word)
            session.prompt_input_ids[number] = torch.tensor([encoded.ids], device=model.device)
            session.prompt_attention_masks[number] = torch.tensor(
                [encoded.attention_mask], device=model.device
            )
        for t in range(len(source)):
            pixels = normalised(source[t], (side, side), LEVEL, LEVEL).to(model.dtype)
            with quiet():  # it would say for every video which of its own parts are not installed
                seen = model(session, frame_idx=t, frame=pixels)
            session.processed_frames = None
            _prune(session, t)
            hidden = set(seen.suppressed_obj_ids or ()) | set(session.hotstart_removed_obj_ids)
            yield (
                t,
                {
                    number: self._full(mask, source.size)
                    for number, mask in seen.obj_id_to_mask.items()
                    if number not in hidden
                },
            )

    def _full(self, mask: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
        logits = F.interpolate(mask[None].float(), size, mode="bilinear", align_corners=False)[0, 0]
        return (logits > 0).cpu().numpy()


def _prune(session, t: int) -> None:
    """Let go of what no later frame attends to."""
    kinds = [outputs["non_cond_frame_outputs"] for outputs in session.output_dict_per_obj.values()]
    for kept in (*kinds, *session.frames_tracked_per_obj.values(), session.suppressed_obj_ids):
        for old in [i for i in kept if t - i > REACH]:
            del kept[old]
