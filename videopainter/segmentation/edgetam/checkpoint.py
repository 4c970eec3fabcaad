"""EdgeTAM's weights: loading them, as published for transformers or as the original release's `edgetam.pt`."""

from __future__ import annotations

import os
import re
from pathlib import Path

from videopainter.segmentation.sam2 import checkpoint as sam2
from videopainter.weights import WeightsError, complete_set, weights_folder, why_missing
from videopainter.weights.load import load_tensors

# Original name -> name in transformers' EdgeTamVideoModel, in this order, after those of SAM 2.
RULES = (
    (r"^vision_encoder\.backbone\.body\.", "vision_encoder.backbone.timm_model."),
    (r"^(memory_attention\.layers\.\d+)\.linear1\.", r"\1.mlp.up_proj."),
    (r"^(memory_attention\.layers\.\d+)\.linear2\.", r"\1.mlp.down_proj."),
    (r"^spatial_perceiver\.norm\.", "spatial_perceiver.layer_norm."),
    (r"^spatial_perceiver\.latents$", "spatial_perceiver.latents_1d"),
    (r"\.attn\.norm_x\.", ".layer_norm_input."),
    (r"\.attn\.norm_latents\.", ".layer_norm_latents."),
    (r"\.self_attn\.layer_norm\.", ".layer_norm_self."),
    (r"^(spatial_perceiver\..*)\.attn\.", r"\1.cross_attention."),
    (r"^(spatial_perceiver\..*)\.self_attn\.", r"\1.self_attention."),
    (r"\.to_q\.", ".q_proj."),
    (r"\.to_out\.", ".o_proj."),
    (r"\.(self_)?ff\.0\.", r".\1mlp.layer_norm."),
    (r"\.(self_)?ff\.1\.", r".\1mlp.up_proj."),
    (r"\.(self_)?ff\.3\.", r".\1mlp.down_proj."),
)
TOGETHER = re.compile(r"\.to_kv\.")  # keys and values, one above the other


def load(folder: str | os.PathLike | None = None, device: str | None = None):
    """EdgeTAM in evaluation mode, from the weights folder (see `weights_folder`).

    On `device` (default: the GPU where there is one), in bfloat16 on a GPU and float32 elsewhere. Raises WeightsError
    if there are no weights, or they cannot be used.
    """
    import torch

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    found = complete_set("edgetam", folder)
    if found is None:
        raise WeightsError(f"EdgeTAM cannot be used: {why_missing('edgetam', folder)}.")
    model = read(weights_folder(folder) / found.networks[0].path)
    return model.to(device, torch.bfloat16 if device.startswith("cuda") else torch.float32)


def read(path: Path, config=None):
    """An `EdgeTamVideoModel` with the tensors of a file; every one must be there, of its shape.

    `path`: `.safetensors` with transformers' names, or a file of the original release. `config`: an
    `EdgeTamVideoConfig`; None: the released one's.
    """
    from transformers import EdgeTamVideoModel

    state = load_tensors(path)
    if "no_mem_embed" in state:
        state = convert_state(state)
    model = EdgeTamVideoModel(config or edgetam_config())  # not on "meta": it has tables that no file has
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[1:2] or [str(error)]
        raise WeightsError(f"'{path}' is not EdgeTAM: {reason[0].strip()}") from error
    return model.eval()


def convert_state(state: dict) -> dict:
    """The tensors of an original checkpoint under transformers' names."""
    converted = {}
    for key, tensor in sam2.convert_state(state).items():
        for pattern, replacement in RULES:
            key = re.sub(pattern, replacement, key)
        if TOGETHER.search(key):
            for name, half in zip(("k_proj", "v_proj"), tensor.chunk(2)):
                converted[TOGETHER.sub(f".{name}.", key)] = half.contiguous()
        else:
            converted[key] = tensor
    return converted


def edgetam_config(backbone=None, **changes):
    """The released network's `EdgeTamVideoConfig`. `backbone`: a `RepVitConfig`; None: RepViT-M1."""
    from transformers import AutoModel, EdgeTamVideoConfig, EdgeTamVisionConfig

    from videopainter.segmentation.edgetam.repvit import RepVitBackbone, RepVitConfig

    AutoModel.register(RepVitConfig, RepVitBackbone, exist_ok=True)
    vision = {
        key: changes.pop(key)
        for key in ("backbone_channel_list", "backbone_feature_sizes", "fpn_hidden_size")
        if key in changes
    }
    settings = {
        "enable_temporal_pos_encoding_for_object_pointers": False,
        "enable_occlusion_spatial_embedding": False,
        **changes,
    }
    return EdgeTamVideoConfig(
        vision_config=EdgeTamVisionConfig(backbone_config=backbone or RepVitConfig(), **vision), **settings
    )
