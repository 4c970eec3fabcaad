"""Sizes of pictures as people write them."""

import argparse
import re

MOST_PIXELS = 8192 * 8192


def parse_size(text: str, least: int = 1) -> tuple[int, int]:
    """(height, width) from `WIDTHxHEIGHT`, such as 432x240; each `least` or more.

    Raises argparse.ArgumentTypeError, a sentence that a command line shows, for anything else.
    """
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", text)
    if not match or min(map(int, match.groups())) < least:
        more = f", each {least} or more" if least > 1 else ", such as 432x240"
        raise argparse.ArgumentTypeError(f"'{text}' is not WIDTHxHEIGHT{more}")
    if int(match[1]) * int(match[2]) > MOST_PIXELS:
        raise argparse.ArgumentTypeError(f"'{text}' has more than {MOST_PIXELS} pixels")
    return int(match[2]), int(match[1])
