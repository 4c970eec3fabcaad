"""`videopainter inpaint` and run_demo.py: click -> mask -> inpaint, with the flags of the guide."""

import argparse
import sys
import warnings
from pathlib import Path

from videopainter.cli import errors, values
from videopainter.cli.parser import Parser

GUIDE_WIDTH, GUIDE_HEIGHT = 720, 480  # the frame in which --click_x and --click_y count
EXTENTS = (
    "part",
    "object",
    "group",
)  # those of videopainter.segmentation.base, which is not imported for --help
SAM2_SIZES = ("auto", "tiny", "small", "base-plus", "large")  # those of videopainter.weights


def build_parser(prog: str = "run_demo.py") -> argparse.ArgumentParser:
    from videopainter.cli.flags import add_engine_flags, defaults_text, engine_help
    from videopainter.utils.default import DEFAULT

    parser = Parser(
        prog=prog,
        description="Take an object out of a video: say which with a click, a box or masks.",
        epilog="Example: --video cup.mp4 --click 375,300 --output_dir output",
    )
    parser.add_argument("--video", required=True, help="input video, or a folder of images")
    parser.add_argument(
        "--fps", type=float, metavar="FPS", help="of a folder of images (default: 25); a video has its own"
    )

    what = parser.add_argument_group("what should go (one click or box, or --mask, is required)")
    what.add_argument(
        "--click_x", type=float, metavar="X", help="target in the first frame, seen as 720 x 480"
    )
    what.add_argument("--click_y", type=float, metavar="Y", help="0-719 for X, 0-479 for Y")
    what.add_argument(
        "--click",
        type=values.point,
        action="append",
        default=[],
        metavar="X,Y[,FRAME[,OBJECT]]",
        help="the same in pixels of the source video, frames counted from 0; clicks that do not touch one "
        "thing, or have different numbers, are on different objects (default: frame 0); may be repeated",
    )
    what.add_argument(
        "--negative_click",
        type=values.point,
        action="append",
        default=[],
        metavar="X,Y[,FRAME[,OBJECT]]",
        help="this does not belong to the object; may be repeated",
    )
    what.add_argument(
        "--box",
        type=values.box,
        action="append",
        default=[],
        metavar="X0,Y0,X1,Y1[,FRAME[,OBJECT]]",
        help="a box around the object; may be repeated",
    )
    what.add_argument(
        "--polygon",
        type=values.polygon_part,
        nargs="+",
        action="append",
        default=[],
        metavar=("X,Y", "X,Y @FRAME[,OBJECT]"),
        help="the object's outline, three corners or more, in a frame (default: @0); may be repeated",
    )
    for flag, help in (
        ("--brush", "an image of the size of the video: what is not black in it belongs to the object"),
        ("--erase", "the same for what does not belong to it"),
        ("--start_mask", "the same for all of the object in that frame, from which it is followed"),
    ):
        what.add_argument(
            flag,
            type=values.image,
            action="append",
            default=[],
            metavar="MASK.png[,FRAME[,OBJECT]]",
            help=f"{help}; may be repeated",
        )
    what.add_argument(
        "--extent",
        choices=EXTENTS,
        help="how much of what is clicked is meant, where its first frame can be read in several ways "
        "(default: the best reading)",
    )
    what.add_argument(
        "--select",
        metavar="NAME",
        help="everything of a kind, instead of clicks: captions, still captions or moving captions: the strokes of "
        "text with their outline; faces, with margins (each 0.03 to 0.16 s a frame on one core); or any words, such as "
        '"the red car, a dog", which need the weights of GroundingDINO or SAM 3',
    )
    what.add_argument(
        "--select_area",
        type=values.area,
        metavar="X0,Y0,X1,Y1",
        help="only within this box (default: the whole picture)",
    )
    what.add_argument(
        "--select_every",
        type=values.frames,
        default=30,
        metavar="N",
        help="look for things that words name, and that have come in since, in every Nth frame (default: %(default)s)",
    )
    what.add_argument(
        "--segmenter",
        default="auto",
        metavar="NAME",
        help="what follows the object: sam2 and edgetam, which need weights and want a GPU; clicks and classical, "
        "which need neither; or auto: the first of these that can run well here (default: auto)",
    )
    what.add_argument(
        "--sam2_size",
        choices=SAM2_SIZES,
        default="auto",
        help="of SAM 2; auto: of what is there the largest on a GPU, the smallest elsewhere (default: auto); without a "
        "GPU tiny and small take 10 CPU seconds a frame of one object, base-plus 15, large 25 to 30, edgetam 2",
    )
    what.add_argument(
        "--mask",
        help="masks instead of clicks: a folder of images, a video, one image, an animated one, .npz or .npy",
    )
    what.add_argument(
        "--mask_id", type=int, metavar="ID", help="the label to take, where masks are label maps"
    )
    what.add_argument(
        "--invert_mask",
        action="store_true",
        help="repaint everything but the object, which is kept to its last pixel",
    )
    what.add_argument(
        "--dilate_size",
        type=float,
        default=DEFAULT,
        metavar="PIXELS",
        help="how much wider and taller masks get, half of it on each side, in a picture of 480 lines or of "
        f"what the engine works at (default: {defaults_text('dilate_size')})",
    )
    what.add_argument(
        "--mask_only",
        action="store_true",
        help="stop after the masks: masks.npz, which --mask reads, masks_vis.mp4",
    )
    what.add_argument(
        "--save_masks",
        type=values.masks_out,
        metavar="PATH[,FORMAT]",
        help="where the masks go besides: x.npz, x.mp4, or a folder of PNGs, of several objects one each; FORMAT "
        "davis: a folder of PNGs whose colours are the objects' numbers",
    )

    how = parser.add_argument_group("what should be there instead, and how")
    how.add_argument("--engine", default="auto", help=engine_help())
    how.add_argument(
        "--prompt", help="what should be there; required by engines that use text, ignored by others"
    )
    how.add_argument(
        "--edit",
        metavar="INSTRUCTION",
        help='instead of taking a thing away, change it: "make the car red"; it is the thing that is named there, '
        "unless something else says what",
    )
    how.add_argument(
        "--source_caption",
        metavar="TEXT",
        help="of --edit: what the video shows, of which the prompt is made",
    )
    how.add_argument(
        "--captioner",
        metavar="MODEL",
        help="of --edit: a language model of transformers on this machine that makes the prompt (default: a template)",
    )
    how.add_argument("--seed", type=int, default=42, help="(default: %(default)s)")
    how.add_argument(
        "--target_fps",
        type=values.rate,
        default=DEFAULT,
        metavar="FPS",
        help="at most so many frames a second; all: no limit; or source: every frame of the video, where those that "
        f"the engine does not inpaint follow by optical flow (default: {defaults_text('target_fps')})",
    )
    how.add_argument(
        "--max_seconds",
        type=values.seconds,
        default=DEFAULT,
        metavar="S",
        help=f"only the first seconds; all: no limit (default: {defaults_text('max_seconds')})",
    )
    how.add_argument(
        "--region",
        default="auto",
        help="what an engine sees that works at one size of picture: auto, the hole and its surroundings in true "
        "proportions, or frame, the whole picture squeezed into that size (default: auto)",
    )

    how.add_argument(
        "--codec",
        metavar="NAME",
        help="of the result: h264, hevc, av1, prores (.mov), ffv1 (.mkv), vp9 (.webm), gif, or png and exr, folders of "
        "images (default: h264, or hevc for a source of more than 8 bits)",
    )
    how.add_argument(
        "--export",
        default="",
        metavar="NAMES",
        help="more files, for compositing elsewhere: matte (white where the object is), foreground (the object with "
        "alpha, ProRes 4444), or matte,foreground",
    )
    how.add_argument(
        "--quality",
        type=float,
        metavar="0-100",
        help="of the result, 100 without loss (default: 76, as the source for the eye)",
    )

    how.add_argument(
        "--effects",
        type=values.effects,
        default="auto",
        metavar="auto|off|N",
        help="shadows and reflections of the object go with it: auto, where they are seen to move with it, up to 15 "
        "per cent of the picture; N: up to N per cent; off (default: auto)",
    )

    add_engine_flags(parser)
    parser.add_argument("--output_dir", default="./output", help="(default: %(default)s)")
    return parser


def main(argv: list[str] | None = None, prog: str = "run_demo.py") -> int:
    """Returns the exit status; see `errors`."""
    parser = build_parser(prog)
    args = parser.parse_args(argv)
    clicks = _guide_click(parser, args)
    values.check_polygons(parser, args.polygon)
    shown = clicks or args.click or args.box or args.polygon or args.brush or args.start_mask
    if args.edit is None and (args.source_caption or args.captioner):
        parser.error("--source_caption and --captioner are of --edit")
    if not (shown or args.mask or args.select or args.edit):
        parser.error(
            "say what should go: --click X,Y, --click_x X --click_y Y, --box X0,Y0,X1,Y1, --polygon, --brush, "
            "--start_mask, --select NAME or --mask PATH"
        )
    if args.mask and (shown or args.negative_click or args.erase):
        parser.error("--mask cannot be used together with clicks, boxes, polygons or brushes")
    return errors.run(lambda: _run(args, clicks), prog, vars(args))


def _run(args: argparse.Namespace, guide_clicks: list[tuple[float, float]]) -> int:
    import logging

    from videopainter.cli.flags import given_options
    from videopainter.cli.hints import HintFormatter
    from videopainter.inpaint import inpaint_video
    from videopainter.masks import load_masks
    from videopainter.segmentation.prompts import BoxPrompt, ClickPrompt, MaskPrompt, PolygonPrompt, Prompt
    from videopainter.video import ArraySource, open_video

    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(HintFormatter())
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    warnings.simplefilter("ignore")  # what is wrong with a video is told through the log

    def click(place: tuple, positive: bool) -> ClickPrompt:
        x, y, frame, number = (
            place if len(place) == 4 else (*place, None) if len(place) == 3 else (*place, 0, None)
        )
        return ClickPrompt(x, y, frame, positive, number)

    with open_video(args.video, fps=args.fps) as source:
        clicks: list[Prompt] = [
            ClickPrompt(rescale(x, GUIDE_WIDTH, source.width), rescale(y, GUIDE_HEIGHT, source.height))
            for x, y in guide_clicks
        ]
        clicks += [click(point, True) for point in args.click]
        clicks += [click(point, False) for point in args.negative_click]
        clicks += [BoxPrompt(*box) for box in args.box]
        for *points, (frame, number) in map(values.closed, args.polygon):
            clicks.append(PolygonPrompt(tuple(points), frame, "is", number))
        for mode, images in (("is", args.start_mask), ("add", args.brush), ("erase", args.erase)):
            for path, frame, number in images:
                painted = load_masks(path, ArraySource(source[:1]))[0]
                clicks.append(MaskPrompt(painted, frame, mode, number))
        edit = _edit(args, bool(clicks or args.mask))
        result = inpaint_video(
            source,
            masks=args.mask,
            clicks=clicks,
            prompt=edit.pop("prompt", args.prompt),
            output_dir=args.output_dir,
            save_masks=args.save_masks and args.save_masks[0],
            masks_format=args.save_masks and args.save_masks[1],
            engine=edit.pop("engine", args.engine),
            mask_id=args.mask_id,
            invert_mask=args.invert_mask,
            dilate_size=edit.pop("dilate_size", args.dilate_size),
            seed=args.seed,
            target_fps=args.target_fps,
            max_seconds=args.max_seconds,
            mask_only=args.mask_only,
            segmenter=args.segmenter,
            sam2_size=args.sam2_size,
            extent=args.extent,
            select=edit.pop("select", args.select),
            select_area=args.select_area,
            select_every=args.select_every,
            region=args.region,
            effects=args.effects,
            codec=args.codec,
            quality=args.quality,
            export=args.export,
            progress=True,
            **{**edit, **given_options(args)},
        )
    folder = Path(args.output_dir)
    names = (path.name if path.parent == folder else str(path) for path in result.files)
    print(f"Written to {args.output_dir}: {', '.join(names)}")
    return 0


def _edit(args: argparse.Namespace, shown: bool) -> dict:
    """What --edit makes of arguments of `inpaint_video`; nothing without it. ValueError if the thing is unknown."""
    if args.edit is None:
        return {}
    from videopainter.edit import DILATE_SIZE, TransformersCaptioner, edit_prompts, engine_options
    from videopainter.utils.default import DEFAULT

    captioner = TransformersCaptioner(args.captioner) if args.captioner else None
    prompts = edit_prompts(args.edit, args.source_caption, args.prompt or None, captioner)
    engine = "videopainter" if args.engine == "auto" else args.engine
    found = {"prompt": prompts.caption, "engine": engine, **engine_options(engine, prompts)}
    if args.dilate_size is DEFAULT:
        found["dilate_size"] = DILATE_SIZE
    if not (shown or args.select):
        if prompts.old is None:
            raise ValueError(f"Say which thing is edited: '{args.edit}' does not name it.")
        found["select"] = prompts.old
    print(f"Prompt: {prompts.caption}")
    return found


def rescale(place: float, size: int, new_size: int) -> float:
    """A pixel of a line of `size`, as the place in one of `new_size` where the middle of that pixel lies."""
    return min(max((place + 0.5) * new_size / size - 0.5, 0), new_size - 1)


def _guide_click(parser: argparse.ArgumentParser, args: argparse.Namespace) -> list[tuple[float, float]]:
    if args.click_x is None and args.click_y is None:
        return []
    if args.click_x is None or args.click_y is None:
        parser.error("--click_x and --click_y need each other")
    for flag, value, end in (
        ("--click_x", args.click_x, GUIDE_WIDTH),
        ("--click_y", args.click_y, GUIDE_HEIGHT),
    ):
        if not 0 <= value <= end - 1:
            parser.error(f"{flag} must be 0 to {end - 1}, in the 720 x 480 frame, not {value:g}")
    return [(args.click_x, args.click_y)]
