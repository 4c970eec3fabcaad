"""Where the tokens of windows, and of those around them, lie."""

from videopainter.ops import token_windows


def test_places_row_by_row():
    assert token_windows.places((2, 6), (2, 3)).tolist() == [[0, 1, 2, 6, 7, 8], [3, 4, 5, 9, 10, 11]]


def test_shifted_windows_and_what_of_them_lies_around():
    size, window, reach = (10, 18), (5, 9), (2, 4)
    own = token_windows.places(size, window)
    around = token_windows.shifted_places(size, window, reach)[:, token_windows.around(window, reach)]
    assert around.shape == (4, 4 * (45 - 3 * 5))
    for here, there in zip(own, around):
        assert not set(here.tolist()) & set(there.tolist())
    # The first window sees two rows and four columns more on every side; at the picture's edge they wrap around.
    seen = {(row % 10) * 18 + column % 18 for row in range(-2, 7) for column in range(-4, 13)}
    assert set(own[0].tolist()) | set(around[0].tolist()) == seen
