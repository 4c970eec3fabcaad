"""A tiny SAM 2 with weights from a seed: what the tests of segmentation share.

`data/sam2_tiny.json` has the tensors of a tiny network under the original release's names and some prompts. Weights
are `fill_state_dict(shapes, seed)`, but for `SCORE`.
"""

import importlib.util
import json
from pathlib import Path

import torch

DATA = Path(__file__).parent / "data"
GOLDEN = json.loads((DATA / "sam2_tiny.json").read_text())
SCORE = "sam_mask_decoder.pred_obj_score_head.layers.2.bias"  # at +6 there is always an object
SIDE = 128  # of the network's pictures

_spec = importlib.util.spec_from_file_location("fill", DATA.parents[1] / "parity/data/fill.py")
fill = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fill)


def config(release="2.0"):
    """The tiny network's `Sam2VideoConfig`."""
    from transformers import (
        Sam2HieraDetConfig,
        Sam2VideoConfig,
        Sam2VideoMaskDecoderConfig,
        Sam2VideoPromptEncoderConfig,
        Sam2VisionConfig,
    )

    backbone = Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[SIDE, SIDE],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        blocks_per_stage=[1, 1, 2, 1],
        global_attention_blocks=[3],
        window_size_per_stage=[8, 4, 4, 2],
    )
    return Sam2VideoConfig(
        vision_config=Sam2VisionConfig(
            backbone_config=backbone,
            backbone_channel_list=[64, 32, 16, 8],
            backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
            fpn_hidden_size=128,
        ),
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(hidden_size=128, image_size=SIDE),
        mask_decoder_config=Sam2VideoMaskDecoderConfig(hidden_size=128),
        image_size=SIDE,
        memory_attention_hidden_size=128,
        memory_attention_rope_feat_sizes=[8, 8],
        memory_encoder_hidden_size=128,
        mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=512,
        enable_temporal_pos_encoding_for_object_pointers=release == "2.1",
        enable_occlusion_spatial_embedding=release == "2.1",
    )


def original_state(release="2.0", score=6.0):
    shapes = {**GOLDEN["shapes"], **(GOLDEN["added_in_2.1"] if release == "2.1" else {})}
    return {**fill.fill_state_dict(shapes, GOLDEN["seed"]), SCORE: torch.tensor([score])}


def write_checkpoint(path, state):
    torch.save({"model": state}, path)
    return path
