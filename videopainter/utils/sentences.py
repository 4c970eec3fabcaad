"""Errors as one sentence of bounded length."""

LONGEST = 500  # characters; a path may have thousands


def sentence(error: BaseException) -> str:
    """What an error says, in one line of at most `LONGEST` characters; of a long one the middle is left out.

    Of an OSError that is its reason and the file's name, of an error without words the name of its type.
    """
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        file = error.filename
        text = f"{error.strerror}: '{file}'" if file is not None else error.strerror
    elif isinstance(error, KeyError) and error.args:
        text = str(error.args[0])
    line = next((line.strip() for line in text.splitlines() if line.strip()), type(error).__name__)
    return shortened(line, LONGEST)


def first_line(error: BaseException) -> str:
    """What an error of another library says, to be quoted in a sentence: short, and without its full stop."""
    return one_line(sentence(error), 200).rstrip(".:")


def one_line(text: str, most: int = LONGEST) -> str:
    """``text`` without line breaks and control characters; of a longer one the middle is left out."""
    return shortened("".join(c if c.isprintable() else " " for c in shortened(text, 2 * most)).strip(), most)


def shortened(text: str, most: int) -> str:
    """``text``, of which the middle is left out if it has more than ``most`` characters."""
    if len(text) <= most:
        return text
    half = (most - 5) // 2
    return f"{text[:half]} ... {text[-half:]}"
