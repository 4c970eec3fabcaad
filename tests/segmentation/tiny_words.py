"""Tiny GroundingDINO and SAM 3 with random weights, saved as they are released, and tokenizers made for them."""

import json

import torch

from videopainter.segmentation.pretrained import quiet

WORDS = ["the", "a", "red", "blue", "car", "dog", "disc"]


def dino_tokenizer(folder):
    """A tokenizer like BERT's; its special pieces have the numbers that GroundingDINO knows them by."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    numbers = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}
    numbers.update({word: 1100 + k for k, word in enumerate(WORDS)})
    tokenizer = Tokenizer(models.WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    ends = [(name, numbers[name]) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    tokenizer.save(str(folder / "tokenizer.json"))


def write_dino(folder, seed=0):
    from transformers import BertConfig, GroundingDinoConfig, GroundingDinoForObjectDetection, SwinConfig

    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            embed_dim=16,
            depths=[1, 1, 1, 1],
            num_heads=[1, 2, 2, 4],
            window_size=4,
            image_size=64,
            out_indices=[2, 3, 4],
        ),
        text_config=BertConfig(
            vocab_size=1120,
            hidden_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=64,
        ),
        d_model=64,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        num_queries=20,
        max_text_len=32,
    )
    torch.manual_seed(seed)
    model = GroundingDinoForObjectDetection(config).eval()
    with torch.no_grad():  # a network that has not been trained says the same of every place
        for parameter in model.model.level_embed, *model.model.encoder_output_bbox_embed.parameters():
            parameter.normal_(std=0.3)
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        model.save_pretrained(folder)
    dino_tokenizer(folder)
    return model


def write_sam3(folder, seed=0):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import Sam3Config, Sam3TrackerVideoConfig, Sam3VideoConfig, Sam3VideoModel

    side, patch, width = 112, 14, 128  # wider than a memory of 64
    vision = {
        "backbone_config": {
            "model_type": "sam3_vit_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": side,
            "patch_size": patch,
            "window_size": 4,
            "global_attn_indexes": [1],
            "pretrain_image_size": side,
        },
        "fpn_hidden_size": width,
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
    }
    small = {"hidden_size": width, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    detector = Sam3Config(
        vision_config={"model_type": "sam3_vision_model", **vision},
        text_config={
            "model_type": "clip_text_model",
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 32,
            "projection_dim": 32,
            "eos_token_id": 1,
            "bos_token_id": 0,
        },
        geometry_encoder_config=small,
        detr_encoder_config=small,
        detr_decoder_config={**small, "num_queries": 8},
        mask_decoder_config={"hidden_size": width, "num_attention_heads": 2},
    )
    tracker = Sam3TrackerVideoConfig(
        vision_config={"model_type": "sam3_vision_model", **vision},
        prompt_encoder_config={"hidden_size": width, "image_size": side, "patch_size": patch},
        mask_decoder_config={
            "hidden_size": width,
            "num_attention_heads": 2,
            "mlp_dim": 64,
            "iou_head_hidden_dim": width,
        },
        memory_attention_hidden_size=width,
        memory_attention_num_layers=1,
        memory_attention_feed_forward_hidden_size=64,
        memory_attention_rope_feat_sizes=[8, 8],
        memory_encoder_hidden_size=width,
        mask_downsampler_embed_dim=width,
        memory_fuser_embed_dim=width,
        memory_fuser_intermediate_dim=64,
    )
    config = Sam3VideoConfig(
        detector_config=detector.to_dict(),
        tracker_config={**tracker.to_dict(), "image_size": side},
        low_res_mask_size=32,
    )
    torch.manual_seed(seed)
    model = Sam3VideoModel(config).eval()
    model.tracker_model.mask_decoder.pred_obj_score_head.proj_out.bias.data.fill_(6)  # always in sight
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        model.save_pretrained(folder)
    written = json.loads((folder / "config.json").read_text())
    written["tracker_config"]["image_size"] = side  # which is not written where it is not the released one's
    (folder / "config.json").write_text(json.dumps(written))
    numbers = {"<|startoftext|>": 0, "<|endoftext|>": 1, "[UNK]": 2}
    numbers.update({word: 3 + k for k, word in enumerate(WORDS)})
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [(name, numbers[name]) for name in ("<|startoftext|>", "<|endoftext|>")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>", special_tokens=ends
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return model
