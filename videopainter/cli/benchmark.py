"""`videopainter metrics --benchmark ...`, infer/evaluate.py: VPBench or DAVIS, as published, as the paper's table.

What is there of results is measured; what is not can be made first.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from videopainter.cli import errors
from videopainter.cli.parser import Parser
from videopainter.utils.size import parse_size

if TYPE_CHECKING:
    from videopainter.batch.rows import Row

SIZES = {"vpbench": (480, 720), "davis": (240, 432)}  # (height, width), as published
# Flags of the published evaluation that say how what is not there is made; switches stand alone.
MAKING = ("model_path", "inpainting_branch", "id_adapter_resample_learnable_path", "lora_rank", "img_inpainting_model",
          "dilate_size", "down_sample_fps", "seed")  # fmt: skip
SWITCHES = ("first_frame_gt", "replace_gt", "mask_add", "long_video")
NEEDLESS = ("num_workers", "save_results")
DAVIS_DILATION = 4  # rounds by which its masks grow, as published


@dataclass(frozen=True)
class Case:
    """One clip of a benchmark. row: of a table, which says which frames. caption, thing: what the result is to show, as
    a whole and, of an edit, in the hole."""

    name: str
    result: Path
    truth: Path
    masks: Path
    caption: str | None = None
    row: Row | None = None
    thing: str | None = None


def build_parser(prog: str) -> argparse.ArgumentParser:
    parser = Parser(
        prog=prog,
        description="Measure results of VPBench or DAVIS: PSNR, SSIM, LPIPS, MSE, MAE over the frame and outside the "
        "hole, CLIP similarity, temporal consistency, removal coherence, VFID.",
        epilog="Written to OUTPUT_DIR: clips/NAME.json, figures.csv, table.md, table.tex. A clip is not "
        "measured again unless its result or the settings change.",
    )
    add = parser.add_argument
    add("--benchmark", "--dataset", dest="benchmark", type=str.lower, choices=tuple(SIZES), required=True,
        help="vpbench: a table of VPBench-S, -L or the editing one; davis: folders of frames")  # fmt: skip
    add("--results", type=Path, help="what `videopainter batch` wrote for the table; for DAVIS folders or videos by "
        "the clips' names (default with --run: results in OUTPUT_DIR)")  # fmt: skip
    add("--csv", "--caption_path", "--inpainting_mask_meta", dest="csv", type=Path, help="the table of VPBench; of "
        "DAVIS, if wanted, one with the columns video and caption")  # fmt: skip
    add("--data_dir", type=Path, help="of VPBench (default: the table's folder)")
    add("--video_root", type=Path, help="of DAVIS: JPEGImages; of VPBench .../videovo/raw_video")
    add("--mask_root", type=Path, help="of DAVIS: test_masks")
    add("--output_dir", "--save_addr", dest="output_dir", type=Path, required=True, help="of the figures")
    add("--size", type=parse_size, metavar="WxH", help="to which everything is resized (default: 720x480, DAVIS "
        "432x240, as published)")  # fmt: skip
    add("--max_video_length", type=int, metavar="N", help="frames at most that are measured of a clip")
    add("--method", default="VideoPainter", help="its name in the table")
    add("--lpips", choices=("alex", "vgg", "squeeze", "none"), default="squeeze", help="its network (default: squeeze, "
        "published)")  # fmt: skip
    add(
        "--weights",
        type=Path,
        metavar="FOLDER",
        help="with LPIPS's files (default: metrics in the weights folder)",
    )
    add("--clip", metavar="FOLDER|NAME|none", help="of CLIP similarity (default: metrics/clip-vit-large-patch14 in the "
        "weights folder, if it is there)")  # fmt: skip
    add("--clip_consistency", metavar="FOLDER|NAME", help="of temporal consistency (default: metrics/"
        "clip-vit-base-patch32, as published, if it is there, else the same as --clip)")  # fmt: skip
    add("--dino", metavar="FOLDER|NAME|none", help="DINOv2, of removal coherence RC-S and RC-T (default: "
        "metrics/dinov2-giant, as published, if it is there)")  # fmt: skip
    add(
        "--i3d",
        metavar="FILE|none",
        help="I3D, of VFID (default: metrics/i3d_rgb_imagenet.pt, if it is there)",
    )
    add("--device", default="cpu")
    add("--run", action="store_true", help="VPBench: first inpaint what is not there; flags of `videopainter "
        "batch` follow after --")  # fmt: skip
    add("batch", nargs="*", help=argparse.SUPPRESS)
    group = parser.add_argument_group(
        "as in the published eval_inpainting.py",
        "With --model_path what is not there is made first, as with --run.",
    )
    for name in ("height", "width"):
        group.add_argument(f"--{name}", type=int, metavar="PIXELS", help="the same as --size")
    for name in MAKING:
        group.add_argument(f"--{name}", help="of `videopainter batch`")
    for name in SWITCHES:
        group.add_argument(f"--{name}", action="store_true", help="of `videopainter batch`")
    for name in NEEDLESS:
        group.add_argument(f"--{name}", nargs="?", help=argparse.SUPPRESS)
    return parser


def main(argv: list[str] | None = None, prog: str = "evaluate.py") -> int:
    """Returns the exit status; see `errors`."""
    parser = build_parser(prog)
    args = parser.parse_args(argv)
    args.run = args.run or args.model_path is not None
    if args.results is None:
        if not args.run:
            parser.error("--results says what is measured; or let it be made: --run")
        args.results = args.output_dir / "results"
    if (args.height is None) != (args.width is None):
        parser.error("--height and --width go together")
    if args.height is not None:
        args.size = (args.width, args.height)
    if args.benchmark == "vpbench" and args.csv is None:
        parser.error("--benchmark vpbench needs --csv, the table")
    if args.benchmark == "davis" and (args.video_root is None or args.mask_root is None):
        parser.error("--benchmark davis needs --video_root and --mask_root")
    if args.run and args.benchmark != "vpbench":
        parser.error("--run is for vpbench")
    if args.run:
        from videopainter.cli.published import main as inpaint

        flags = ["--csv", str(args.csv), "--output_dir", str(args.results)]
        given = {"data_dir": args.data_dir, "image_or_video_path": args.video_root}
        given |= {name: getattr(args, name) for name in MAKING}
        flags += [
            part for name, value in given.items() if value is not None for part in (f"--{name}", str(value))
        ]
        flags += [f"--{name}" for name in SWITCHES if getattr(args, name)]
        status = inpaint([*flags, *args.batch], prog)
        if status not in (errors.OK, errors.FAILED):
            return status
    return errors.run(
        lambda: _evaluate(args), prog, vars(args), "Stopped; the same command goes on from here."
    )


def find_cases(args: argparse.Namespace) -> list[Case]:
    """The clips of a benchmark. Raises ValueError where one has no result."""
    cases = _vpbench(args) if args.benchmark == "vpbench" else _davis(args)
    if not cases:
        raise ValueError("The benchmark has no clips.")
    missing = [case for case in cases if not case.result.exists()]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(cases)} clips have no result; the first is '{missing[0].name}', looked for at "
            f"'{missing[0].result}'."
        )
    return cases


def _vpbench(args: argparse.Namespace) -> list[Case]:
    from videopainter.batch.rows import BadRow, read_rows
    from videopainter.cli.published import data_folder

    data = args.data_dir or (data_folder(args.video_root) if args.video_root else None)
    cases = []
    for row in read_rows(args.csv, data):
        if isinstance(row, BadRow):
            raise ValueError(f"Row {row.number} of '{args.csv}': {row.error}")
        # infer/inpaint.py's folders; or the published script's files.
        places = [args.results / row.name / "result.mp4", args.results / f"{row.number}.mp4"]
        result = next((place for place in places if place.is_file()), places[0])
        cases.append(Case(row.name, result, row.video, row.mask, row.prompt, row, row.thing))
    return cases


def _davis(args: argparse.Namespace) -> list[Case]:
    from videopainter.metrics.layout import find_clips

    captions = _captions(args.csv) if args.csv else {}
    found = find_clips(args.results, args.video_root, args.mask_root)
    return [Case(clip.name, clip.result, clip.truth, clip.masks, captions.get(clip.name)) for clip in found]


def _captions(table: Path) -> dict[str, str]:
    import csv

    with open(table, newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    columns = [name.lower() for name in rows[0]] if rows else []
    name = next(
        (i for i, column in enumerate(columns) if column in ("video", "path", "name", "video_name")), None
    )
    caption = next((i for i, column in enumerate(columns) if column in ("caption", "prompt")), None)
    if name is None or caption is None:
        raise ValueError(f"'{table}' needs the columns video and caption.")
    return {row[name].split(".")[0]: row[caption] for row in rows[1:] if len(row) > max(name, caption)}


def read_case(case: Case, size: tuple[int, int], longest: int | None, dilate: int):
    """(result, truth, masks) as arrays of one length and size. Raises ValueError where they do not fit."""
    import cv2
    import numpy as np

    from videopainter.masks import load_masks
    from videopainter.ops.resize import resize, resize_mask
    from videopainter.video import open_video

    with open_video(case.result) as written, open_video(case.truth) as video:
        if case.row is None:
            source, masks = video, load_masks(case.masks, video)
        else:
            source, masks = _row_frames(case.row, case.result, video)
        count = len(written)
        if count > len(source) or (case.row is None and count != len(source)):
            raise ValueError(f"{case.name}: the result has {count} frames, the true clip {len(source)}.")
        count = min(count, longest or count)

        def fit(frame):
            return resize(np.ascontiguousarray(frame), size, "linear")

        result = np.stack([fit(written[i : i + 1][0]) for i in range(count)])
        truth = np.stack([fit(source[i : i + 1][0]) for i in range(count)])
        holes = np.stack([resize_mask(np.ascontiguousarray(masks[i]), size) for i in range(count)])
    if dilate:
        cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
        holes = np.stack([cv2.dilate(m.astype(np.uint8), cross, iterations=dilate) > 0 for m in holes])
    return result, truth, holes


def _row_frames(row: Row, result: Path, video):
    """A row's frames and masks, those that were worked on, as run.json beside the result says."""
    from videopainter.batch.clips import excerpt, given_masks
    from videopainter.masks import MaskTrack, load_masks
    from videopainter.video.subset import at_rate, first_seconds, original_numbers
    from videopainter.weights import read_json

    masks, source = given_masks(row, video, excerpt(row, video))
    rate: float | None = 8.0  # the published script's
    seconds: float | None = None
    report = result.with_name("run.json")
    if report.is_file():
        settings = read_json(report).get("settings", {})
        rate, seconds = settings.get("target_fps"), settings.get("max_seconds")
        rate = None if isinstance(rate, str) else rate
    worked = at_rate(first_seconds(source, seconds), rate)
    if isinstance(masks, MaskTrack):
        first = {number: i for i, number in enumerate(original_numbers(source))}
        return worked, masks.select([first[number] for number in original_numbers(worked)])
    return worked, load_masks(masks, worked if len(worked) != len(video) else video, row.mask_id)


def _evaluate(args: argparse.Namespace) -> int:
    from videopainter.metrics import paper
    from videopainter.utils.atomic import whole_file

    warnings.simplefilter("ignore")
    cases = find_cases(args)
    size = args.size[::-1] if args.size else SIZES[args.benchmark]
    dilate = DAVIS_DILATION if args.benchmark == "davis" else 0
    models = _find_models(args)
    lpips, clip, steady, coherence, features = _load_models(models, args.device)
    used = {"max_video_length": args.max_video_length} | {name: str(path) for name, path in models.items()}
    folder = args.output_dir / "clips"
    folder.mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict] = {}
    vectors = []
    for number, case in enumerate(cases, 1):
        state = case.result.stat()
        told = json.dumps([str(case), used, size, dilate, state.st_size, state.st_mtime_ns])
        key = hashlib.sha256(told.encode()).hexdigest()[:16]
        path = folder / f"{case.name}.json"
        known = json.loads(path.read_text()) if path.is_file() else {}
        if known.get("key") != key:
            result, truth, holes = read_case(case, size, args.max_video_length, dilate)
            figures = paper.measure(result, truth, holes, case.caption, lpips, clip, coherence, case.thing)
            if steady is not None:
                figures["consistency"] = steady.consistency(list(result))
                figures["consistency_hole"] = steady.consistency(list(result), list(holes))
            known = {"key": key, "figures": figures}
            if features is not None:
                known["i3d"] = [_video_features(features, clip_, holes) for clip_ in (result, truth)]
            with whole_file(path) as file:
                file.write(json.dumps(known).encode())
            print(f"{number} of {len(cases)}: {case.name}", flush=True)
        rows[case.name] = known["figures"]
        if "i3d" in known:
            vectors.append(known["i3d"])
    means = paper.mean(list(rows.values()))
    if len(vectors) > 1:
        import numpy as np

        from videopainter.metrics.frechet import frechet_distance

        means["vfid"] = float(frechet_distance(*(np.array([pair[i] for pair in vectors]) for i in (0, 1))))
    table = paper.as_markdown({args.method: means})
    for name, text in (("figures.csv", paper.as_csv(rows, means)), ("table.md", table),
                       ("table.tex", paper.as_latex({args.method: means}))):  # fmt: skip
        with whole_file(args.output_dir / name) as file:
            file.write(text.encode())
    print(table, end="")
    print(f"{len(rows)} clips; see {args.output_dir / 'figures.csv'}.")
    return errors.OK


def _find_models(args: argparse.Namespace) -> dict[str, Path | str | None]:
    """What each measure's network is loaded from; None: that measure is left out, which is said."""
    from videopainter.weights import weights_folder

    folder = args.weights or weights_folder() / "metrics"
    found: dict[str, Path | str | None] = {"lpips": None if args.lpips == "none" else folder}
    found["net"] = args.lpips
    for name, usual, what in (
        ("clip", "clip-vit-large-patch14", "CLIP"),
        ("clip_consistency", "clip-vit-base-patch32", None),
        ("dino", "dinov2-giant", "DINOv2"),
        ("i3d", "i3d_rgb_imagenet.pt", None),
    ):
        given, default = getattr(args, name), folder / usual
        found[name] = None if given == "none" else given or (default if default.exists() else None)
        if given is None and found[name] is None and what:
            left = "similarity and consistency" if what == "CLIP" else "removal coherence"
            print(f"{what} is not there, so {left} is left out; --{name} FOLDER names it.", file=sys.stderr)
    if args.clip == "none" and args.clip_consistency is None:
        found["clip_consistency"] = None
    return found


def _load_models(found: dict, device: str) -> tuple:
    """LPIPS, CLIP, CLIP for consistency, removal coherence, I3D; None for those that are left out."""
    lpips = clip = steady = coherence = features = None
    if found["lpips"]:
        from videopainter.metrics.lpips import load_lpips

        lpips = load_lpips(found["net"], found["lpips"], device)
    if found["clip"] or found["clip_consistency"]:
        from videopainter.metrics.clip import ClipMeasures

        clip = ClipMeasures(found["clip"], device) if found["clip"] else None
        steady = ClipMeasures(found["clip_consistency"], device) if found["clip_consistency"] else None
    if found["dino"]:
        from videopainter.metrics.coherence import RemovalCoherence

        coherence = RemovalCoherence(found["dino"], device)
    if found["i3d"]:
        from videopainter.metrics.vfid import VideoFeatures, load_i3d

        features = VideoFeatures(load_i3d(found["i3d"]), "stored", device)
    return lpips, clip, steady, coherence, features


def _video_features(features, frames, holes) -> list[float]:
    pieces = ((frames[i : i + 8], holes[i : i + 8]) for i in range(0, len(frames), 8))
    return [float(value) for value in features(pieces, len(frames))[0]]
