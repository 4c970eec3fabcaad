"""train/train_branch.py and train/train_adapter.py, from videos to what the pipeline loads."""

import csv
import re
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLCogVideoX
from safetensors.torch import load_file

from videopainter.cli.train_diffusion import build_parser, main
from videopainter.diffusion import VideoPainterBranchModel
from videopainter.metrics.lpips import FILES, LPIPS

ROOT = Path(__file__).resolve().parents[3]
SMALL = ("--height", 64, "--width", 96, "--frames", 9, "--steps", 2, "--rank", 4, "--lr_warmup_steps", 0)


def run(kind, folder, *more):
    fixed = ("--output_dir", folder, *SMALL)
    return main([str(one) for one in (*fixed, *more)], f"train_{kind}.py", kind)


def write_lpips(folder):
    """LPIPS's files with random weights, where training looks for them."""
    model = LPIPS("squeeze")
    trunk = {
        f"features.{name}": torch.rand(one.shape) * 0.1 for name, one in model.features.state_dict().items()
    }
    linear = {f"lin{i}.model.1.weight": torch.rand(one.weight.shape) for i, one in enumerate(model.linear)}
    folder.mkdir(parents=True)
    torch.save(trunk, folder / FILES["squeeze"])
    torch.save(linear, folder / "lpips_squeeze.pth")


def test_a_branch(footage, base_folder, tmp_path, capsys, monkeypatch):
    """From a folder of videos, validated with all measures, the VAE in tiles, stopped and gone on with."""
    monkeypatch.setenv("VIDEOPAINTER_CKPT", str(tmp_path / "ckpt"))
    # Tiles whose steps are whole latents, as the released VAE's are.
    tiles, tiled = (32, 64, 0.25, 0.25), AutoencoderKLCogVideoX.enable_tiling
    monkeypatch.setattr(AutoencoderKLCogVideoX, "enable_tiling", lambda vae: tiled(vae, *tiles))
    write_lpips(tmp_path / "ckpt/metrics")
    out = tmp_path / "run"
    begin = ("--data", footage, "--pretrained_model_name_or_path", base_folder, "--enable_tiling")
    validated = ("--validating_steps", 2, "--num_validation_videos", 1, "--validation_inference_steps", 1)
    assert run("branch", out, *begin, "--checkpointing_steps", 1, *validated) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "3 texts are encoded." in said and "2 of 2 clips" in said and "update 2: psnr_hole" in said
    assert re.search(r"update 2: psnr_hole [\d.]+, ssim_hole [\d.]+, lpips_hole [\d.]+", said)
    assert VideoPainterBranchModel.from_pretrained(out / "branch").config.num_layers == 2
    assert [path.name for path in sorted(out.iterdir())] == [
        *("branch", "checkpoint-1", "checkpoint-2", "curve.png", "prompts", "validation")
    ]
    whole = load_file(out / "branch/diffusion_pytorch_model.safetensors")
    shutil.rmtree(out / "checkpoint-2")
    shutil.rmtree(out / "branch")
    assert run("branch", out, *begin, "--resume_from_checkpoint", "latest") == 0
    again = load_file(out / "branch/diffusion_pytorch_model.safetensors")
    assert all(tensor.equal(again[name]) for name, tensor in whole.items())


def test_an_adapter_from_the_published_table(footage, base_folder, branch_folder, tmp_path, capsys):
    """The data set's layout and the published flags."""
    data = tmp_path / "data"
    for path in ("videovo/raw_video/123/123456.0.mp4", "video_inpainting/videovo/123456/all_masks.npz"):
        (data / path).parent.mkdir(parents=True)
        shutil.copy(footage / ("one.mp4" if path.endswith("mp4") else "one.npz"), data / path)
    with open(data / "train.csv", "w", newline="") as file:
        rows = [
            "path mask_id start_frame end_frame fps caption".split(),
            ["123456.0.mp4", 1, 0, 24, 16, "a red car"],
        ]
        csv.writer(file).writerows(rows)
    published = (
        *("--pretrained_model_name_or_path", base_folder, "--cogvideox_branch_name_or_path", branch_folder),
        *("--meta_file_path", data / "train.csv", "--instance_data_root", data / "videovo/raw_video"),
        *("--cache_dir", "~/.cache", "--dataloader_num_workers", 0, "--validation_epochs", 1, "--seed", 42),
        *("--mixed_precision", "no", "--fps", 8, "--max_num_frames", 9, "--video_reshape_mode", "resize"),
        *(
            "--skip_frames_start",
            0,
            "--max_text_seq_length",
            16,
            "--branch_layer_num",
            2,
            "--train_batch_size",
            1,
        ),
        *("--checkpointing_steps", 1024, "--gradient_accumulation_steps", 1, "--learning_rate", "1e-5"),
        *(
            "--lr_scheduler",
            "cosine_with_restarts",
            "--lr_num_cycles",
            1,
            "--enable_slicing",
        ),
        *(
            "--noised_image_dropout",
            0.05,
            "--gradient_checkpointing",
            "--optimizer",
            "AdamW",
            "--adam_beta1",
            0.9,
        ),
        *(
            "--max_grad_norm",
            1.0,
            "--allow_tf32",
            "--tracker_name",
            "x",
            "--runs_name",
            "y",
            "--mix_train_ratio",
            0,
        ),
        *("--inpainting_loss_weight", 1.0, "--first_frame_gt", "--mask_add", "--mask_transform_prob", 0.3),
        *("--p_brush", 0.4, "--p_rect", 0.1, "--p_ellipse", 0.1, "--p_circle", 0.1, "--p_random_brush", 0.3),
        *("--lora_alpha", 2, "--id_pool_resample_learnable", "--num_train_epochs", 1),
    )
    assert run("adapter", tmp_path / "run", *published) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "1 of 1 clips" in said and "1 updates" in said and "--cache_dir changes nothing" in said
    tensors = load_file(tmp_path / "run/pytorch_lora_weights.safetensors")
    assert all(name.startswith("transformer.transformer_blocks.") for name in tensors)
    assert {tuple(t.shape) for n, t in tensors.items() if "lora_A" in n} == {(4, 64)}


FAULTS = {
    "nothing": ((), "Say what to train on: --data FOLDER, or --csv"),
    "no folder": (("--data", "gone"), "There is no folder 'gone'"),
    "no model": (("--data", "DATA", "--model_path", "gone"), "There is no folder 'gone'"),
    "frames": (("--data", "DATA", "--frames", "8"), "--frames. have to be 1, 5, 9|frames"),
    "letters": (("--data", "DATA", "--frames", "x"), "is not numbers with commas"),
    "optimizer": (
        ("--data", "DATA", "--optimizer", "adamw_8bit"),
        "needs bitsandbytes, which is not installed",
    ),
    "tokens": (("--data", "DATA", "--max_text_seq_length", 99), "is the base model's 16, not 99"),
    "mix": (("--data", "DATA", "--mix_train_ratio", 0.5), "single frames are a bucket"),
    "resume": (("--data", "DATA", "--resume_from_checkpoint", "latest"), "There is no checkpoint in"),
    "personal": (("--data", "DATA", "--personal"), "--personal is of train_adapter.py"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_is_one_sentence(footage, base_folder, tmp_path, capsys, name):
    pytest.importorskip("matplotlib")
    arguments, said = FAULTS[name]
    arguments = [footage if one == "DATA" else one for one in arguments]
    model = () if "--model_path" in arguments else ("--model_path", base_folder)
    try:
        status = run("branch", tmp_path / "run", *arguments, *model)
    except SystemExit as end:
        status = end.code
    assert status == 2 and re.search(said, capsys.readouterr().err.splitlines()[-1])


def test_every_flag_of_the_published_training_is_known():
    flags = """pretrained_model_name_or_path cache_dir meta_file_path val_meta_file_path instance_data_root
        dataloader_num_workers num_validation_videos validation_epochs seed mixed_precision output_dir height width fps
        max_num_frames video_reshape_mode skip_frames_start skip_frames_end max_text_seq_length branch_layer_num
        train_batch_size num_train_epochs checkpointing_steps validating_steps gradient_accumulation_steps learning_rate
        lr_scheduler lr_warmup_steps lr_num_cycles enable_slicing enable_tiling noised_image_dropout
        gradient_checkpointing optimizer adam_beta1 adam_beta2 max_grad_norm allow_tf32 report_to tracker_name runs_name
        inpainting_loss_weight mix_train_ratio first_frame_gt mask_add mask_transform_prob p_brush p_rect p_ellipse
        p_circle p_random_brush rank lora_alpha id_pool_resample_learnable cogvideox_branch_name_or_path max_train_steps
        resume_from_checkpoint checkpoints_total_limit use_8bit_adam proportion_empty_prompts add_first wo_text
        mask_background margin_ratio shape_scale_min shape_scale_max caption_column dataset_config_name dataset_name
        enable_xformers_memory_efficient_attention hub_model_id hub_token id_token lr_power pin_memory prodigy_beta3
        prodigy_decouple prodigy_safeguard_warmup prodigy_use_bias_correction push_to_hub random_flip random_mask
        resolution revision scale_lr use_dynamic_cfg validation_prompt_separator variant video_column
        corrupt_file_path logging_dir guidance_scale validation_prompt adam_epsilon adam_weight_decay""".split()
    for kind in ("branch", "adapter"):
        parser = build_parser("x", kind)
        known = {flag for action in parser._actions for flag in action.option_strings}
        assert {f"--{flag}" for flag in flags} <= known
        parser.format_help()
