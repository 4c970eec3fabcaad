"""A tiny EdgeTAM with weights from a seed: what the tests of segmentation share."""

import torch
from tiny_sam2 import fill

SIDE = 64  # of the network's pictures


def config():
    """The tiny network's `EdgeTamVideoConfig`."""
    from transformers import EdgeTamVideoMaskDecoderConfig, EdgeTamVideoPromptEncoderConfig

    from videopainter.segmentation.edgetam.checkpoint import edgetam_config
    from videopainter.segmentation.edgetam.repvit import RepVitConfig

    return edgetam_config(
        RepVitConfig(widths=[8, 16, 24, 32], depths=[1, 1, 2, 1]),
        backbone_channel_list=[32, 24, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=128,
        prompt_encoder_config=EdgeTamVideoPromptEncoderConfig(hidden_size=128, image_size=SIDE).to_dict(),
        mask_decoder_config=EdgeTamVideoMaskDecoderConfig(hidden_size=128).to_dict(),
        image_size=SIDE,
        memory_attention_hidden_size=128,
        memory_attention_rope_feat_sizes=[4, 4],
        memory_attention_rope_k_sizes=[4, 4],
        memory_encoder_hidden_size=128,
        mask_downsampler_embed_dim=128,
        memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=512,
        perceiver_resampler_num_latents=16,
        perceiver_resampler_num_latents_2d=16,
    )


def state():
    """Its tensors under transformers' names, from a seed; at a score of +6 there is always an object."""
    from transformers import EdgeTamVideoModel

    with torch.device("meta"):
        shapes = {name: tuple(t.shape) for name, t in EdgeTamVideoModel(config()).state_dict().items()}
    made = fill.fill_state_dict(shapes, 5)
    for name in made:
        if name.endswith("running_var"):
            made[name] = made[name].abs() + 0.5
        elif name.endswith("num_batches_tracked"):
            made[name] = torch.tensor(0)
    positions = "prompt_encoder.shared_embedding.positional_embedding"
    made["shared_image_embedding.positional_embedding"] = made[positions].clone()
    made["mask_decoder.pred_obj_score_head.proj_out.bias"] = torch.tensor([6.0])
    return made
