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
    if len(line) <= LONGEST:
        return line
    half = (LONGEST - 5) // 2
    return f"{line[:half]} ... {line[-half:]}"
