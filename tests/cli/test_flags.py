"""The flags of the command lines, against the table of engines."""

import argparse

from videopainter.cli.flags import add_engine_flags, given_options
from videopainter.engine import ENGINES


def parsed(*arguments):
    parser = argparse.ArgumentParser()
    add_engine_flags(parser)
    return parser.parse_args(arguments)


def test_every_option_of_every_engine_has_a_flag_and_no_flag_is_of_none():
    known = {option for spec in ENGINES.values() for option in spec.option_names}
    assert set(vars(parsed())) == known
    assert given_options(parsed()) == {}


def test_the_guides_names():
    guide = ("--inpainting_frames", "9", "--overlap_frames", "5", "--img_inpainting_model", "flux")
    more = ("--inpainting_branch", "b", "--id_adapter_resample_learnable_path", "id", "--compile")
    assert given_options(parsed(*guide, *more)) == {
        "window": 9,
        "overlap": 5,
        "first_frame_model": "flux",
        "branch": "b",
        "id_adapter": "id",
        "compile": True,
    }
