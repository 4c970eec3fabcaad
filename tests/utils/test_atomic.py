"""Files that are there whole or not at all, whatever their names."""

import pytest

from videopainter.utils.atomic import shortened_name, whole_file, whole_folder

LONG = ["鸭" * 80 + ".npz", "a" * 251 + ".npz", "ü" * 120 + ".npz"]  # 244, 255 and 244 bytes


@pytest.mark.parametrize("name", LONG)
def test_names_as_long_as_file_systems_take_them(tmp_path, name):
    with whole_file(tmp_path / name) as file:
        file.write(b"all of it")
        (hidden,) = tmp_path.iterdir()
        assert hidden.name.startswith(".") and hidden.name.endswith(".part")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    (tmp_path / name).unlink()
    with whole_folder(tmp_path / name) as folder:
        (folder / "file").write_bytes(b"")
    assert [path.name for path in tmp_path.iterdir()] == [name] and (tmp_path / name / "file").is_file()


def test_nothing_is_left_of_what_failed(tmp_path):
    for whole in (whole_file, whole_folder):
        with pytest.raises(KeyboardInterrupt), whole(tmp_path / "a"):
            raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_names_are_cut_between_letters():
    assert shortened_name("鸭" * 80) == "鸭" * 26 and shortened_name("short.mp4") == "short.mp4"
    assert shortened_name("a" + "鸭" * 80) == "a" + "鸭" * 26
