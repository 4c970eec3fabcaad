"""What is named: several things in one text, and tokens of it."""

from __future__ import annotations

import re
from pathlib import Path

from videopainter.masks import MaskError
from videopainter.utils.sentences import first_line, one_line
from videopainter.weights import WeightsError, plain_file

MOST_PHRASES, LONGEST = 20, 200  # things named at a time; characters of each


def phrases(text: str) -> list[str]:
    """The things that a text names, separated by commas, semicolons or full stops, in lower case.

    Raises MaskError if it names none, or too many.
    """
    found = [" ".join(part.split()).lower() for part in re.split(r"[,;.\n]", text)]
    found = list(dict.fromkeys(part for part in found if re.search(r"\w", part)))
    if not found:
        raise MaskError(f"'{one_line(text, 80)}' names nothing to look for.")
    if len(found) > MOST_PHRASES or max(map(len, found)) > LONGEST:
        raise MaskError(
            f"At most {MOST_PHRASES} things of {LONGEST} characters each are looked for at a time."
        )
    return found


def read_tokenizer(path: Path):
    """A `tokenizers.Tokenizer` from a published `tokenizer.json`. Raises WeightsError if it is none."""
    from tokenizers import Tokenizer

    path = plain_file(path)
    try:
        return Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # its reader raises a plain Exception
        raise WeightsError(f"'{path}' is no tokenizer: {first_line(error)}.") from None
