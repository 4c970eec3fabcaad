"""infer/inpaint.py with the flags of the published script, besides those of `videopainter batch`.

With --output_path one row becomes one file, as there, and what is switched on by flags there (--first_frame_gt,
--replace_gt, --mask_add) is off without them. Without it the rows become folders below --output_dir.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
from pathlib import Path

from videopainter.cli import errors
from videopainter.cli.parser import Parser

KINDS = ("i2v_inpainting", "inpainting")
SWITCHES = ("first_frame_gt", "replace_gt", "mask_add")
NO_MODEL = ("", "none")
CAPTIONS = ("Edited_video_caption", "Edited_image_caption")


def add_published_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of the published script that `videopainter batch` has not."""
    group = parser.add_argument_group("as in the published inpaint.py")
    group.add_argument(
        "--output_path",
        type=Path,
        metavar="FILE.mp4",
        help="one row to one file; beside it FILE_vis.mp4, four panels, and FILE.json, what was asked for",
    )
    group.add_argument(
        "--inpainting_sample_id", type=int, metavar="N", help="the row, counted from 0; only this one"
    )
    group.add_argument(
        "--image_or_video_path",
        type=Path,
        metavar="PATH",
        help="the folder with the videos, such as data/videovo/raw_video; or, with --output_path, the video itself",
    )
    group.add_argument("--generate_type", metavar="KIND", help=f"only {' or '.join(KINDS)}")
    group.add_argument(
        "--num_videos_per_prompt",
        type=int,
        default=1,
        metavar="N",
        help="with --output_path: so many videos, FILE.mp4, FILE_1.mp4, ..., with the seeds --seed, --seed + 1, ...",
    )
    group.add_argument(
        "--llm_model",
        metavar="NAME",
        help="only None: no language model is asked; --first_frame_prompt says what the first frame shows",
    )
    group.add_argument(
        "--long_video",
        action="store_true",
        help="with --output_path: the whole row, not only its first --inpainting_frames frames; else it always is",
    )
    group.add_argument(
        "--video_editing_instruction",
        metavar="TEXT",
        help="with --output_path: change the thing rather than take it away, as it says; the masks grow by 48 then",
    )
    group.add_argument(
        "--captions",
        type=Path,
        metavar="FILE.json",
        help="of an edit: Edited_video_caption and Edited_image_caption, as the published scripts write them",
    )
    group.add_argument("--mask_background", action="store_true", help="repaint everything but the object")


def build_parser(prog: str = "inpaint.py") -> argparse.ArgumentParser:
    """Every flag, for `--help` and for mistakes."""
    from videopainter.batch.command import build_parser as build_batch_parser

    parser = build_batch_parser(prog)
    add_published_flags(parser)
    for action in parser._actions:
        if action.dest == "output_dir":
            action.required = False
    return parser


def main(argv: list[str] | None = None, prog: str = "inpaint.py") -> int:
    """Returns the exit status; see `errors`."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = build_parser(prog)
    args = parser.parse_args(argv)
    if (args.llm_model or "").lower() not in NO_MODEL:
        parser.error(
            f"--llm_model {args.llm_model}: no language model is asked here; say what the first frame shows with "
            "--first_frame_prompt"
        )
    if args.generate_type not in (None, *KINDS):
        parser.error(
            f"--generate_type is {' or '.join(KINDS)}, not {args.generate_type}: videos are inpainted here"
        )
    if args.num_videos_per_prompt < 1:
        parser.error(f"--num_videos_per_prompt is 1 or more, not {args.num_videos_per_prompt}")
    if args.inpainting_sample_id is not None and args.inpainting_sample_id < 0:
        parser.error(f"--inpainting_sample_id is 0 or more, not {args.inpainting_sample_id}")
    if args.output_path is not None:
        if args.output_path.suffix.lower() != ".mp4":
            parser.error(f"--output_path ends in .mp4, unlike '{args.output_path}'")
        if args.inpainting_sample_id is None:
            parser.error("--output_path needs --inpainting_sample_id, the row that it is for")
        return errors.run(lambda: _one_row(args), prog, vars(args))
    if args.video_editing_instruction is not None or args.captions is not None:
        parser.error("--video_editing_instruction and --captions are for --output_path")
    if args.output_dir is None:
        parser.error("say where results go: --output_dir, or --output_path for one row")
    return _rows(parser, args, argv, prog)


def _rows(parser: argparse.ArgumentParser, args: argparse.Namespace, argv: list[str], prog: str) -> int:
    """Hand over to `videopainter batch`, in its own flags, which its processes get as well."""
    from videopainter.batch.command import main as batch

    if args.num_videos_per_prompt != 1:
        parser.error(
            "--num_videos_per_prompt is for --output_path; several videos of all rows are several runs with other "
            "--seed and --output_dir"
        )
    published = Parser(add_help=False, allow_abbrev=False)
    add_published_flags(published)
    _, rest = published.parse_known_args(argv)
    if args.inpainting_sample_id is not None:
        rest += ["--rows", f"{args.inpainting_sample_id}:{args.inpainting_sample_id + 1}"]
    if args.image_or_video_path is not None and args.data_dir is None:
        data = data_folder(args.image_or_video_path)
        if data is None:
            parser.error(
                f"--image_or_video_path '{args.image_or_video_path}' does not end in videovo/raw_video; say with "
                "--data_dir where videovo/, pexels/ and video_inpainting/ are"
            )
        rest += ["--data_dir", str(data)]
    if args.mask_background:
        rest += ["--invert_mask"]
    return batch(rest, prog)


def data_folder(videos: Path) -> Path | None:
    """The folder of the published data that holds these videos, `.../videovo/raw_video` or that of Pexels."""
    for name in ("videovo/raw_video", "pexels/pexels/raw_video"):
        parts = tuple(name.split("/"))
        if videos.parts[-len(parts) :] == parts:
            return Path(*videos.parts[: -len(parts)])
    return None


def read_row(args: argparse.Namespace):
    """The row that is asked for, with its video where --image_or_video_path says. ValueError if there is none."""
    from videopainter.batch.rows import BadRow, read_rows

    given, number = args.image_or_video_path, args.inpainting_sample_id
    data = args.data_dir or (data_folder(given) if given is not None else None)
    rows = read_rows(args.csv, data, args.allow_absolute)
    if number >= len(rows):
        raise ValueError(
            f"inpainting_sample_id is {number}, but '{args.csv}' has {len(rows)} rows, counted from 0."
        )
    row = rows[number]
    if isinstance(row, BadRow):
        raise ValueError(row.error)
    if given is None or data_folder(given) is not None:
        return row
    if given.is_file():
        return dataclasses.replace(row, video=given)
    if not given.is_dir():
        raise ValueError(f"There is no '{given}', which image_or_video_path names.")
    # The data set sorts videos into folders; here they may lie in one.
    sorted_in = given / row.video.parent.name / row.video.name
    return dataclasses.replace(row, video=sorted_in if sorted_in.is_file() else given / row.video.name)


def _one_row(args: argparse.Namespace) -> int:
    import warnings

    from videopainter.cli.flags import given_options
    from videopainter.edit import DILATE_SIZE, engine_options
    from videopainter.engine import choose_engine

    warnings.simplefilter("ignore")  # what is wrong with a video is told through the log
    row = read_row(args)
    prompt = args.prompt or row.prompt
    given = given_options(args)
    for name in SWITCHES:
        given.setdefault(name, False)
    edit = _edit(args, prompt)
    if edit is not None:
        prompt = edit.caption
        args.dilate_size = DILATE_SIZE if args.dilate_size is None else args.dilate_size
        given = {**engine_options("videopainter", edit), **given}
    info, _ = choose_engine("videopainter" if args.engine == "auto" else args.engine, **given)
    if info.takes_prompt and not prompt:
        raise ValueError(f"The engine '{info.name}' needs a prompt, and the row has none.")
    options = {name: value for name, value in given.items() if name in info.option_names}
    engine = info.load(**options)
    for copy in range(args.num_videos_per_prompt):
        target = args.output_path.with_stem(f"{args.output_path.stem}_{copy}") if copy else args.output_path
        shown = prompt if info.takes_prompt else None
        frames = _write(args, row, engine, shown, args.seed + copy, target, edit)
        print(f"Written to {target}: {frames} frames.", flush=True)
    return errors.OK


def _edit(args: argparse.Namespace, source_caption: str | None):
    """The `EditPrompts` that are asked for; None: it is no edit."""
    from videopainter.edit import EditPrompts, edit_prompts
    from videopainter.weights import read_json

    instruction = args.video_editing_instruction
    if args.captions is None:
        return None if instruction is None else edit_prompts(instruction, source_caption)
    told = read_json(args.captions)
    told = told if isinstance(told, dict) else {}
    captions = [caption for name in CAPTIONS if isinstance(caption := told.get(name), str) and caption]
    if len(captions) < len(CAPTIONS):
        raise ValueError(f"'{args.captions}' has to hold the texts {' and '.join(CAPTIONS)}.")
    return EditPrompts(*captions)


def _write(args: argparse.Namespace, row, engine, prompt: str | None, seed: int, target: Path, edit) -> int:
    """Inpaint a row into a file with what belongs to it; how many frames it has."""
    from videopainter.batch.clips import excerpt, given_masks
    from videopainter.inpaint import inpaint_video
    from videopainter.utils.atomic import whole_file
    from videopainter.utils.default import DEFAULT
    from videopainter.video import open_video

    target.parent.mkdir(parents=True, exist_ok=True)
    rate = DEFAULT if args.down_sample_fps is None else args.down_sample_fps or None  # 0: all
    with (
        open_video(row.video, fps=row.fps if row.video.is_dir() else None) as video,
        tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.stem}.") as unfinished,
    ):
        masks, source = given_masks(row, video, excerpt(row, video))
        seconds = args.max_seconds
        if not args.long_video and args.window is not None:
            shown = min(float(source.fps), args.down_sample_fps or float(source.fps))
            beginning = (args.window - 0.5) / shown
            seconds = beginning if seconds is None else min(seconds, beginning)
        result = inpaint_video(
            source,
            masks,
            mask_id=row.mask_id if isinstance(masks, Path) else None,
            invert_mask=args.mask_background,
            prompt=prompt,
            engine=engine,
            output_dir=unfinished,
            dilate_size=args.dilate_size,
            seed=seed,
            target_fps=rate,
            max_seconds=seconds,
            codec=args.codec,
            quality=args.quality,
        )
        for name, final in (("result", target), ("result_vis", target.with_stem(f"{target.stem}_vis"))):
            made = next(path for path in result.files if path.stem == name)
            os.replace(made, final.with_suffix(made.suffix))
    asked = {
        "path": row.video.name,
        "mask_id": row.mask_id,
        "start_frame": row.start,
        "end_frame": row.end,
        "fps": None if row.fps is None else float(row.fps),
        "video_inpainting_prompt": prompt,
        "image_inpainting_prompt": getattr(args, "first_frame_prompt", None) or prompt,
        "seed": seed,
    }
    if edit is not None:
        asked |= {"Original_video_caption": row.prompt, **dict(zip(CAPTIONS, (edit.caption, edit.thing)))}
        asked["video_editing_instruction"] = args.video_editing_instruction
    with whole_file(target.with_suffix(".json")) as file:
        file.write(json.dumps(asked, indent=4, ensure_ascii=False).encode())
    return len(result.masks)
