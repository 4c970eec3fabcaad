"""train/train_branch.py and train/train_adapter.py: VideoPainter's branch, its ID adapter, an adapter of one's own."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import typing
from pathlib import Path

from videopainter.cli import errors
from videopainter.cli.flags import describe
from videopainter.cli.parser import Parser

# Flags of the published training that do nothing here, and why they need not.
NEEDLESS = {
    "cache_dir": "weights are read from their folder",
    "tracker_name": "the project is VideoPainter",
    "runs_name": "the output folder is the run's name",
    "validation_epochs": "validating_steps says when",
    "corrupt_file_path": "a video that cannot be read ends the training with a sentence",
    "logging_dir": "logs are in the output folder",
    "skip_frames_start": "the table says which frames",
    "skip_frames_end": "the table says which frames",
    "validation_prompt": "validation clips have their own text",
    "guidance_scale": "validation uses the pipeline's own",
    "use_dynamic_cfg": "validation uses the pipeline's own",
    "validation_prompt_separator": "validation clips have their own text",
    "enable_xformers_memory_efficient_attention": "attention is PyTorch's own",
    "pin_memory": "clips are few and large",
    "revision": "weights are read from their folder",
    "variant": "weights are read from their folder",
    "dataset_name": "clips come from folders and tables",
    "dataset_config_name": "clips come from folders and tables",
    "video_column": "clips come from folders and tables",
    "caption_column": "clips come from folders and tables",
    "id_token": "a clip's text is what its file says",
    "push_to_hub": "nothing is uploaded",
    "hub_token": "nothing is uploaded",
    "hub_model_id": "nothing is uploaded",
}


def main(argv: list[str] | None = None, prog: str = "train_branch.py", kind: str = "branch") -> int:
    """Returns the exit status; see `errors`."""
    parser = build_parser(prog, kind)
    args = parser.parse_args(argv)
    if args.personal and kind != "adapter":
        parser.error("--personal is of train_adapter.py")
    stopped = "Stopped at once; --resume_from_checkpoint latest goes on from the last checkpoint."
    return errors.run(lambda: _train(args, "personal" if args.personal else kind), prog, vars(args), stopped)


def build_parser(prog: str, kind: str) -> argparse.ArgumentParser:
    from videopainter.diffusion.training.config import preset

    usual = preset(kind)
    parser = Parser(
        prog=prog,
        description="Train VideoPainter's context branch."
        if kind == "branch"
        else "Train VideoPainter's ID adapter, or with --personal one of a thing of your own.",
        epilog="On several GPUs: accelerate launch "
        f"train/{prog} ...  The flags of the published training are known under their names.",
    )
    add = parser.add_argument
    add("--data", type=Path, action="append", default=[], metavar="FOLDER",
        help="videos and pictures; NAME.txt is the text of NAME.mp4, NAME.npz or NAME_masks/ its masks; may be "
        "repeated")  # fmt: skip
    add("--csv", "--meta_file_path", dest="csv", type=Path, metavar="CSV",
        help="a table instead, as `videopainter batch` reads them; VPData's, too")  # fmt: skip
    add("--data_dir", "--instance_data_root", dest="data_dir", type=Path, metavar="FOLDER",
        help="below which the table's paths lie, or its videos: .../videovo/raw_video")  # fmt: skip
    add(
        "--validation",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="videos to validate with",
    )
    add("--val_meta_file_path", type=Path, metavar="CSV", help="a table of such")
    add("--prompt", default="", help="the text of videos that have none")
    add("--output_dir", type=Path, required=True, metavar="FOLDER", help="of the run")
    add("--model_path", "--pretrained_model_name_or_path", dest="model_path", type=Path, metavar="FOLDER",
        help="the base model (default: CogVideoX-5b-I2V in the weights folder)")  # fmt: skip
    add("--branch", "--cogvideox_branch_name_or_path", "--inpainting_branch", dest="branch", type=Path,
        metavar="FOLDER", help="a branch to begin with (default: " + (
            "a new one, of the base model's first layers)" if kind == "branch" else "that of the weights folder)"
        ))  # fmt: skip
    add("--resume_from_checkpoint", metavar="FOLDER|latest", help="go on from there")
    add(
        "--resolution", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="instead of --height and --width"
    )
    add(
        "--random_masks",
        "--random_mask",
        dest="random_masks",
        action="store_true",
        help="leave the given masks aside",
    )
    add("--personal", action="store_true", help=argparse.SUPPRESS if kind == "branch" else "rank 16, random masks, "
        "no resampling: for putting this thing there; --prompt is how to call it")  # fmt: skip
    add("--report_to", default=None, metavar="NAME", help="tensorboard or wandb (default: neither)")
    add(
        "--workers",
        "--dataloader_num_workers",
        dest="workers",
        type=int,
        default=0,
        help="processes that read clips",
    )
    add("--enable_slicing", action="store_true", help="the VAE works frame by frame")
    add("--enable_tiling", action="store_true", help="the VAE works tile by tile")
    add("--allow_tf32", action="store_true", help="faster sums on GPUs, less exact")
    add("--use_8bit_adam", action="store_true", help="8 bits for adam or adamw")
    add("--num_train_epochs", type=int, metavar="N", help="instead of --steps: every clip so often")
    add("--max_text_seq_length", type=int, metavar="N", help="only the base model's own")
    add(
        "--mix_train_ratio", type=float, default=0.0, help="only 0: single frames are a bucket, --frames 1,49"
    )
    group = parser.add_argument_group("the run")
    for field in dataclasses.fields(usual):
        if field.name == "kind":
            continue
        names = [f"--{name}" for name in (field.name, *field.metadata.get("aliases", ()))]
        value = getattr(usual, field.name)
        shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
        text = describe(_as_option(field, shown))
        if isinstance(value, bool):
            group.add_argument(
                *names, dest=field.name, default=None, action=argparse.BooleanOptionalAction, help=text
            )
        else:
            parse = _numbers(type(value[0])) if isinstance(value, tuple) else type(value)
            parse = str.lower if parse is str else parse
            metavar = field.metadata.get("metavar")
            group.add_argument(*names, dest=field.name, default=None, type=parse, metavar=metavar, help=text)
    for name in NEEDLESS:
        add(f"--{name}", default=None, nargs="?", const="", help=argparse.SUPPRESS)
    return parser


def _as_option(field: dataclasses.Field, shown: typing.Any) -> typing.Any:
    """What `describe` reads: the field with the default of this kind of training."""
    from types import SimpleNamespace

    return SimpleNamespace(metadata={**field.metadata, "default_text": shown}, default=shown)


def _numbers(kind: type):
    def parse(text: str) -> tuple:
        try:
            return tuple(kind(part) for part in text.split(","))
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{text}' is not numbers with commas") from None

    return parse


def _train(args: argparse.Namespace, kind: str) -> int:
    import logging

    import matplotlib  # noqa: F401  the curve needs it: not found out after hours
    import torch

    from videopainter.diffusion.requirements import BRANCH, MODEL
    from videopainter.diffusion.training.config import TrainingConfig, preset
    from videopainter.diffusion.training.data import Clips
    from videopainter.diffusion.training.networks import PromptCache, load_networks
    from videopainter.diffusion.training.processes import make_accelerator
    from videopainter.diffusion.training.trainer import Trainer, checkpoints
    from videopainter.utils.signals import Stop, Stopped
    from videopainter.weights import weights_folder

    logging.basicConfig(stream=sys.stdout, format="%(message)s", level=logging.WARNING, force=True)
    given = {f.name: getattr(args, f.name) for f in dataclasses.fields(TrainingConfig) if f.name != "kind"}
    changes = {name: value for name, value in given.items() if value is not None}
    if args.use_8bit_adam:
        changes["optimizer"] = "adam_8bit" if args.optimizer == "adam" else "adamw_8bit"
    if args.resolution:
        changes["height"], changes["width"] = args.resolution
    config = preset(kind, **changes)
    if args.mix_train_ratio:
        raise ValueError("mix_train_ratio is not known here: single frames are a bucket, --frames 1,49.")
    for name, why in NEEDLESS.items():
        if getattr(args, name) is not None:
            print(f"--{name} changes nothing: {why}.")
    clips = _clips(args.data, args.csv, args.data_dir, args.prompt)
    if not clips:
        raise ValueError("Say what to train on: --data FOLDER, or --csv.")
    if args.random_masks or kind == "personal":
        clips = [dataclasses.replace(clip, mask=None, mask_id=None) for clip in clips]
    model = args.model_path or weights_folder() / MODEL
    branch = args.branch or (weights_folder() / BRANCH if kind != "branch" else None)
    for folder in (model, branch):
        if folder is not None and not folder.is_dir():
            raise ValueError(f"There is no folder '{folder}'.")
    accelerator = make_accelerator(config, args.report_to, args.output_dir)
    if args.allow_tf32:
        torch.backends.cuda.matmul.allow_tf32 = True
    dtype = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[config.mixed_precision]
    each = config.batch_size * config.accumulation * accelerator.num_processes
    found = Clips(clips, config, each)
    if args.num_train_epochs:
        config = dataclasses.replace(
            config, steps=max(1, -(-len(found.clips) * args.num_train_epochs // each))
        )
        found.config = config
    networks = load_networks(model, config, branch, dtype)
    tokens = networks.transformer.config["max_text_seq_length"]
    if args.max_text_seq_length not in (None, tokens):
        raise ValueError(f"max_text_seq_length is the base model's {tokens}, not {args.max_text_seq_length}.")
    validating = _clips(args.validation, args.val_meta_file_path, args.data_dir, args.prompt)
    embeds = PromptCache(args.output_dir / "prompts")
    if accelerator.is_main_process:
        prompts = {"", *(clip.prompt for clip in (*found.clips, *validating))}
        if number := embeds.fill(prompts, model, tokens, accelerator.device, dtype):
            print(f"{number} texts are encoded.", flush=True)
    accelerator.wait_for_everyone()
    vae: typing.Any = networks.vae  # the checker does not see the mixin that these come from
    if args.enable_slicing:
        vae.enable_slicing()
    if args.enable_tiling:
        vae.enable_tiling()
    trainer = Trainer(
        config,
        networks,
        found,
        embeds.__getitem__,
        args.output_dir,
        accelerator,
        args.report_to,
        args.workers,
    )
    if args.resume_from_checkpoint:
        known = checkpoints(args.output_dir)
        if args.resume_from_checkpoint == "latest" and not known:
            raise ValueError(f"There is no checkpoint in '{args.output_dir}' to go on from.")
        latest = args.resume_from_checkpoint == "latest"
        trainer.resume(known[-1] if latest else Path(args.resume_from_checkpoint))
    trained = sum(one.numel() for one in trainer.parameters)
    print(
        f"{len(found.clips)} of {len(clips)} clips, {trained:,} trained values, {config.steps} updates of {each}."
    )
    validate = None
    if config.validating_steps:
        validate = _validation(validating or found.clips, config, embeds, args.output_dir)
    notice = "Stops after this update; once more stops at once, and goes back to the last checkpoint."
    with Stop(notice) as stop:
        result = trainer.run(stop, print, validate)
    if result is None:
        said = (
            f"Stopped after update {trainer.step}, which is saved; --resume_from_checkpoint latest goes on."
        )
        raise Stopped(said, stop)
    print(f"Written to {result}.")
    return errors.OK


def _clips(folders: list[Path], table: Path | None, data: Path | None, prompt: str) -> list:
    """Of folders and of a table. Raises ValueError for a row that cannot be read."""
    from videopainter.cli.published import data_folder
    from videopainter.diffusion.training.data import Clip, find_clips

    clips = [clip for folder in folders for clip in find_clips(folder, prompt)]
    if table is not None:
        from videopainter.batch.rows import BadRow, read_rows

        for row in read_rows(table, (data_folder(data) or data) if data is not None else None):
            if isinstance(row, BadRow):
                raise ValueError(f"Row {row.number} of '{table}': {row.error}")
            if not row.video.exists():
                raise ValueError(f"Row {row.number} of '{table}': there is no '{row.video}'.")
            clips.append(
                Clip(row.video, row.prompt or prompt, row.mask, row.mask_id, row.start, row.end, row.fps)
            )
    return clips


def _validation(clips: list, config, embeds, output: Path):
    from videopainter.diffusion.training.data import Clips
    from videopainter.diffusion.training.validate import validation
    from videopainter.metrics.hole import psnr, ssim

    fixed = dataclasses.replace(config, cache_latents=1, mask_transform_prob=0.0)
    chosen = Clips(clips, fixed, 1)
    samples = [chosen.variant(i) for i in range(min(config.num_validation_videos, len(chosen.clips)))]

    lpips = _lpips()

    def measure(frames, truth, masks) -> dict[str, float]:
        found = {"psnr_hole": psnr(frames, truth, masks)[0], "ssim_hole": ssim(frames, truth, masks)}
        if lpips is not None:
            found["lpips_hole"] = float(lpips.frames(frames, truth, spatial=True)[masks].mean())
        return found

    return validation(samples, embeds.__getitem__, output, measure)


def _lpips():
    """LPIPS with the weights of the weights folder; None where they are not there."""
    from videopainter.metrics.lpips import load_lpips
    from videopainter.weights import WeightsError, weights_folder

    try:
        return load_lpips("squeeze", weights_folder() / "metrics")
    except WeightsError:
        return None
