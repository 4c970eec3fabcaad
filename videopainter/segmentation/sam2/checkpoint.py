"""SAM 2's weights: loading them, and bringing a checkpoint of the original release into transformers' names."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from videopainter.segmentation.pretrained import quiet, read_pretrained
from videopainter.segmentation.sam2.sizes import Released, choose, config_of, recognise, size_of, why_none
from videopainter.weights import WeightsError, complete_set, weights_folder
from videopainter.weights.load import load_tensors

# Original name -> name in transformers' Sam2VideoModel, applied in this order to every key.
RULES = (
    (r"^image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"^image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
    (r"^sam_prompt_encoder\.", "prompt_encoder."),
    (
        r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$",
        "prompt_encoder.shared_embedding.positional_embedding",
    ),
    (r"^prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"^prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"^prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"^prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"^prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
    (r"^sam_mask_decoder\.", "mask_decoder."),
    (r"^mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"^mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"^mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    (r"^memory_encoder\.pix_feat_proj\.", "memory_encoder.feature_projection."),
    (r"^memory_encoder\.out_proj\.", "memory_encoder.projection."),
    (r"^memory_encoder\.fuser\.", "memory_encoder.memory_fuser."),
    (r"^memory_encoder\.mask_downsampler\.encoder\.12\.", "memory_encoder.mask_downsampler.final_conv."),
    (r"\.dwconv\.", ".depthwise_conv."),
    (r"\.pwconv(\d)\.", r".pointwise_conv\1."),
    (r"\.gamma$", ".scale"),
    (r"^maskmem_tpos_enc$", "memory_temporal_positional_encoding"),
    (r"^no_mem_embed$", "no_memory_embedding"),
    (r"^no_mem_pos_enc$", "no_memory_positional_encoding"),
    (r"^no_obj_ptr$", "no_object_pointer"),
    (r"^no_obj_embed_spatial$", "occlusion_spatial_embedding_parameter"),
    (r"^obj_ptr_tpos_proj\.", "temporal_positional_encoding_projection_layer."),
    (r"^obj_ptr_proj\.", "object_pointer_proj."),
    (r"\.norm(\d?)\.", r".layer_norm\1."),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
    (r"\.out_proj\.", ".o_proj."),
    (r"\.mlp\.layers\.0\.", ".mlp.proj_in."),
    (r"\.mlp\.layers\.1\.", ".mlp.proj_out."),
)
# Perceptrons of three layers: the outer two have names of their own, the middle one is counted anew.
THREE_LAYERS = re.compile(
    r"^(.*(?:iou_prediction_head|pred_obj_score_head|output_hypernetworks_mlps\.\d+|object_pointer_proj))\.layers\.(\d)\."
)
LAYER_NAMES = ("proj_in", "layers.0", "proj_out")
# The mask downsampler is a sequence of (convolution, norm, activation).
DOWNSAMPLER = re.compile(r"^memory_encoder\.mask_downsampler\.encoder\.(\d+)\.")
# One tensor that two modules of transformers have a copy of each.
POSITIONS = (
    "prompt_encoder.shared_embedding.positional_embedding",
    "shared_image_embedding.positional_embedding",
)
POINT_KINDS = 4  # beside it, on it, a box's first and second corner: one table each in the original


def load(folder: str | os.PathLike | None = None, device: str | None = None, size: str = "auto"):
    """SAM 2 in evaluation mode, from the weights folder (see `weights_folder`).

    A file of the original release, such as `sam2.1_hiera_tiny.pt`, is converted on first use, into the folder
    `sam2.1-hiera-tiny/` beside it. On `device` (default: the GPU where there is one), in bfloat16 on a GPU and float32
    elsewhere. `size`: a key of `SIZES`, or "auto": the largest that is there on a GPU, the smallest elsewhere.

    Raises WeightsError if there are none, or they cannot be used.
    """
    import torch

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    on_gpu = not device.startswith("cpu")
    wanted = choose(size, on_gpu, folder)
    if wanted is None:
        name = "SAM 2" if size == "auto" else f"SAM 2 {size}"
        raise WeightsError(f"{name} cannot be used: {why_none(size, on_gpu, folder)}.")
    path = weights_folder(folder) / wanted.folder
    found = complete_set(wanted.part, folder)
    if not found.files:
        convert_file(weights_folder(folder) / found.networks[0].path, path, wanted=wanted)
    model = read(path)
    if (other := size_of(model.config)) not in (None, wanted.size):
        raise WeightsError(f"'{path}' holds SAM 2 {other}, not {wanted.size}; move it to where that belongs.")
    return model.to(device, torch.bfloat16 if device.startswith("cuda") else torch.float32)


def read(path: Path):
    """A `Sam2VideoModel` from a folder in transformers' format; every tensor must be there, of its shape."""
    from transformers import Sam2VideoModel

    # Versions of transformers differ in which copy of the positions they save.
    return read_pretrained(Sam2VideoModel, path, "SAM 2", POSITIONS)


def convert_file(checkpoint: Path, folder: Path, config=None, wanted: Released | None = None) -> None:
    """Write transformers' `config.json` and `model.safetensors` for an original checkpoint into `folder`.

    Args:
        checkpoint: as released, `{"model": state dict}`; only tensors are unpickled.
        config: a `Sam2VideoConfig`; None: that of the released network whose tensors these are.
        wanted: which released network it must be.

    Raises WeightsError if it is not such a checkpoint, or another one. On any error nothing is left.
    """
    import torch
    from transformers import Sam2VideoModel

    original = load_tensors(checkpoint)
    held = recognise({name: tensor.shape for name, tensor in original.items()})
    if wanted and held and held != wanted:
        raise WeightsError(
            f"'{checkpoint}' holds {held}, not {wanted}; give it its own name, {held.file}.pt."
        )
    state = convert_state(original)
    expected = held or wanted or Released("large", "2.0")
    with torch.device("meta"):
        model = Sam2VideoModel(config or config_of(expected.size, state))
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[1:2] or [str(error)]
        raise WeightsError(f"'{checkpoint}' is not {expected.file}: {reason[0].strip()}") from error
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as unfinished:
        with quiet():
            model.save_pretrained(unfinished)
        for name in ("model.safetensors", "config.json"):  # the last one makes it complete
            os.replace(Path(unfinished, name), folder / name)


def convert_state(state: dict) -> dict:
    """The tensors of an original checkpoint under transformers' names."""
    import torch

    converted = {rename(key): tensor for key, tensor in state.items()}
    points = [f"prompt_encoder.point_embeddings.{i}.weight" for i in range(POINT_KINDS)]
    if all(key in converted for key in points):
        converted["prompt_encoder.point_embed.weight"] = torch.cat([converted.pop(key) for key in points])
    if POSITIONS[0] in converted:
        converted[POSITIONS[1]] = converted[POSITIONS[0]].clone()
    return converted


def rename(key: str) -> str:
    """One original key in transformers' names."""
    for pattern, replacement in RULES:
        key = re.sub(pattern, replacement, key)
    key = THREE_LAYERS.sub(lambda m: f"{m[1]}.{LAYER_NAMES[int(m[2])]}.", key)
    return DOWNSAMPLER.sub(
        lambda m: (
            f"memory_encoder.mask_downsampler.layers.{int(m[1]) // 3}.{('conv', 'layer_norm')[int(m[1]) % 3]}."
        ),
        key,
    )
