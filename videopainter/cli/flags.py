"""The flags that give an engine its options, for every command line; nothing heavy is imported."""

import argparse


def add_engine_flags(parser: argparse.ArgumentParser) -> None:
    """A flag for every option of every engine, None where it is not given; second names are the guide's."""
    diffusion = parser.add_argument_group("videopainter only: quality")
    diffusion.add_argument(
        "--num_inference_steps", type=int, metavar="N", help="denoising steps: time for quality (default: 50)"
    )
    diffusion.add_argument(
        "--guidance_scale",
        type=float,
        metavar="SCALE",
        help="how closely to follow the prompt (default: 6.0)",
    )
    diffusion.add_argument(
        "--first_frame",
        help="what paints the first frame, which the others follow: flux, propagation, none, or auto: flux where "
        "its weights are there and fit, else propagation (default: auto)",
    )
    diffusion.add_argument(
        "--first_frame_prompt", metavar="TEXT", help="what flux is to paint (default: the prompt)"
    )
    diffusion.add_argument(
        "--conditioning_scale",
        type=float,
        metavar="SCALE",
        help="strength of the context branch (default: 1.0)",
    )
    diffusion.add_argument(
        "--window",
        "--inpainting_frames",
        type=int,
        metavar="FRAMES",
        help="frames that the network sees at once: 5, 9, ... (default: as many as it can, 49)",
    )
    diffusion.add_argument(
        "--overlap",
        "--overlap_frames",
        type=int,
        metavar="FRAMES",
        help="frames that two windows of a long video share: 1, 5, 9, ... (default: 1)",
    )
    diffusion.add_argument(
        "--id_adapter",
        "--id_adapter_resample_learnable_path",
        nargs="?",
        const=True,
        metavar="PATH",
        help="keep an object's identity over windows with VideoPainterID; without PATH that of the weights folder",
    )
    diffusion.add_argument(
        "--prev_clip_weight",
        type=float,
        metavar="WEIGHT",
        help="0 to 1: how much a window looks at the one before (default: 0.0)",
    )

    machine = parser.add_argument_group("videopainter only: machine and weights")
    machine.add_argument(
        "--memory",
        help="fast: all on the GPU, from 34 GiB; balanced: network by network, from 28 GiB; low: block by block, "
        "weights in 8 bits; or auto, by what is free (default: auto)",
    )
    machine.add_argument(
        "--compile", action="store_true", default=None, help="compile the transformer; pays on long videos"
    )
    machine.add_argument(
        "--cache", help="first_block: leave blocks out in steps that change little; none (default: none)"
    )
    machine.add_argument(
        "--device", help="also propainter, e2fgvi and dstt: cuda, cuda:1, ..., cpu (default: the first GPU)"
    )
    machine.add_argument(
        "--model_path",
        metavar="FOLDER",
        help="the base model (default: CogVideoX-5b-I2V in the weights folder)",
    )
    machine.add_argument(
        "--first_frame_model",
        "--img_inpainting_model",
        metavar="FOLDER",
        help="FLUX Fill (default: flux_inp in the weights folder)",
    )
    machine.add_argument(
        "--branch",
        "--inpainting_branch",
        metavar="FOLDER",
        help="the context branch (default: VideoPainter/checkpoints/branch in the weights folder)",
    )
    flow = parser.add_argument_group("propainter and e2fgvi")
    flow.add_argument(
        "--neighbor_length", type=int, metavar="N", help="propainter only: frames of a window (default: 10)"
    )
    flow.add_argument("--ref_stride", type=int, metavar="N", help="frames between references (default: 10)")
    flow.add_argument(
        "--subvideo_length",
        type=int,
        metavar="N",
        help="propainter only: frames of a piece (default: what memory allows)",
    )
    flow.add_argument(
        "--raft_iter", type=int, metavar="N", help="propainter only: steps of the optical flow (default: 20)"
    )
    flow.add_argument("--variant", help="e2fgvi only: hq, or base, which works at 432 x 240 (default: hq)")
    flow.add_argument(
        "--neighbor_stride",
        type=int,
        metavar="N",
        help="e2fgvi only: frames of a window to each side, and from one window to the next (default: 5)",
    )
    flow.add_argument(
        "--num_ref",
        type=int,
        metavar="N",
        help="e2fgvi only: references of a window; -1: all there are, with memory that grows with the video "
        "(default: the 8 nearest)",
    )
    flow.add_argument(
        "--resize_ratio", type=float, metavar="R", help="size it works at (default: 1, or what memory allows)"
    )
    flow.add_argument("--mask_dilation", type=int, metavar="PIXELS", help="beyond --dilate_size (default: 0)")
    flow.add_argument("--fp16", action="store_true", default=None, help="half precision (default on a GPU)")
    stream = parser.add_argument_group("dstt only")
    stream.add_argument(
        "--weights",
        metavar="FILE",
        help="its network: .safetensors, .onnx or .pt2 (default: the one that is part of the project)",
    )
    stream.add_argument(
        "--threads", type=int, metavar="N", help="on a CPU (default: one for the network of the project)"
    )


def given_options(args: argparse.Namespace) -> dict:
    """The options that were given, by name."""
    from videopainter.inpaint import KNOWN_OPTIONS

    return {name: getattr(args, name) for name in sorted(KNOWN_OPTIONS) if getattr(args, name) is not None}
