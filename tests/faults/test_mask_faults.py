"""Archives and pictures of masks that are damaged, malicious or something else: one sentence, and little memory."""

import io
import os
import pickle
import struct
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from videopainter.masks import MaskError, load_masks

ROOT = Path(__file__).resolve().parents[2]
N, H, W = 6, 48, 64


class Video:
    size = (H, W)

    def __len__(self):
        return N


def good():
    masks = np.zeros((N, H, W), np.uint8)
    masks[:, 10:20, 10:20] = 4
    return masks


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def header(text, version=1, length=None):
    """The beginning of an array with any words as its header."""
    data = text.encode()
    size = len(data) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", size) + data


def archive(path, data, method=zipfile.ZIP_DEFLATED, name="arr_0.npy"):
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr(name, data)


SHAPE = f"'shape': ({N}, {H}, {W}), "
DEEP = "(" * 3000 + ")" * 3000


class Trap:
    def __reduce__(self):
        return os.mkdir, ("was here",)


def flipped(path):
    np.savez_compressed(path, good())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)


def encrypted(path):
    np.savez(path, good())
    data = bytearray(path.read_bytes())
    data[6] |= 1  # the flag in the record and in the directory; zipfile asks for a password
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)


def lzma_damaged(path):
    archive(path, npy(good()), zipfile.ZIP_LZMA)
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)
    path.write_bytes(data)


def method(number):
    def write(path):
        np.savez(path, good())
        data = bytearray(path.read_bytes())
        data[8:10] = struct.pack("<H", number)
        at = data.rindex(b"PK\x01\x02") + 10
        data[at : at + 2] = struct.pack("<H", number)
        path.write_bytes(data)

    return write


def spaces(path):
    """3 MB on the disk, and a header of 3 GB."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
        file.open("arr_0.npy", "w", force_zip64=True) as member,
    ):
        member.write(header("", 2, 3_000_000_000))
        for _ in range(60):  # as long as a test may take; what is read is bounded long before
            member.write(b" " * 2**20)


def words(text, version=1):
    return lambda path: archive(path, header(text, version) + bytes(N * H * W * 8))


FILES = {
    "a flipped bit": flipped,
    "encrypted": encrypted,
    "damaged LZMA": lzma_damaged,
    "an unknown method": method(97),
    "deflate64": method(9),
    "stored said to be deflated": method(8),
    "stored said to be bzip2": method(12),
    "a header of spaces": spaces,
    "objects": words(f"{{'descr': ('O',), 'fortran_order': False, {SHAPE}}}"),
    "object": words(f"{{'descr': '|O', 'fortran_order': False, {SHAPE}}}"),
    "a pickle": lambda path: archive(
        path, header(f"{{'descr': '|O', 'fortran_order': False, {SHAPE}}}") + pickle.dumps(Trap())
    ),
    "an array of objects": lambda path: np.savez(path, np.array([Trap()], dtype=object)),
    "deep": words(DEEP[:9000]),
    "deep in version 2": words(DEEP, 2),
    "deep lists": words("[" * 9000),
    "minus after minus": words("-" * 9000 + "1"),
    "no words": words("\0" * 100),
    "a list": words("[1, 2]"),
    "other keys": words("{'a': 1}"),
    "a name": words("{'descr': open('/etc/passwd'), 'fortran_order': False, 'shape': (1, 1, 1)}"),
    "a number of 4,000 digits": words("1" * 4000),
    "an unhashable key": words("{[]: 1}"),
    "no type": words(f"{{'descr': 'x99', 'fortran_order': False, {SHAPE}}}"),
    "a type of lists": words(f"{{'descr': [('a', [('b', 'u1')])], 'fortran_order': False, {SHAPE}}}"),
    "a type of numbers": words(f"{{'descr': 3, 'fortran_order': False, {SHAPE}}}"),
    "text": words(f"{{'descr': '<U1', 'fortran_order': False, {SHAPE}}}"),
    "floats": words(f"{{'descr': '<f4', 'fortran_order': False, {SHAPE}}}"),
    "a wide type": words(f"{{'descr': '|V1000000000', 'fortran_order': False, {SHAPE}}}"),
    "no frames": words("{'descr': '|u1', 'fortran_order': False, 'shape': (0, 48, 64), }"),
    "a negative shape": words("{'descr': '|u1', 'fortran_order': False, 'shape': (-6, -48, 64), }"),
    "a shape of floats": words("{'descr': '|u1', 'fortran_order': False, 'shape': (6.0, 48, 64), }"),
    "a shape of 10^30": words(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({10**30}, 48, 64), }}"),
    "frames of 10^12": words("{'descr': '|u1', 'fortran_order': False, 'shape': (6, 1000000, 1000000), }"),
    "in Fortran's order, 10^12": words(
        "{'descr': '|u1', 'fortran_order': True, 'shape': (6, 1000000, 1000000), }"
    ),
    "order by a number": words(f"{{'descr': '|u1', 'fortran_order': 3, {SHAPE}}}"),
    "version 9": lambda path: archive(path, b"\x93NUMPY\x09\x00" + bytes(100)),
    "no header": lambda path: archive(path, b"\x93NUMPY\x01\x00"),
    "half a header": lambda path: archive(path, header("{'descr'", length=500)),
    "too few frames": lambda path: archive(path, npy(good())[:-5000]),
    "no array": lambda path: archive(path, b""),
    "another name": lambda path: archive(path, npy(good()), name="x" * 60_000),
    "a folder of that name": lambda path: archive(path, b"", name="arr_0.npy/"),
    "empty": lambda path: path.touch(),
    "text as archive": lambda path: path.write_text("no archive"),
    "half an archive": lambda path: np.savez(path, good()) or os.truncate(path, path.stat().st_size // 2),
    "a folder": lambda path: path.mkdir(),
    "a pipe": lambda path: os.mkfifo(path),
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


def said_of(path):
    """What is said about masks, in a thread, for a pipe might be waited for."""
    found = []

    def attempt():
        try:
            load_masks(path, Video())
        except (MaskError, ValueError, OSError) as error:
            found.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(30)
    assert found, "nothing is said"
    return str(found[0])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", FILES)
def test_archives(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    FILES[kind](tmp_path / "a.npz")
    text = said_of(tmp_path / "a.npz")
    assert "\n" not in text and "a.npz" in text and len(text) < 700 + len(str(tmp_path))
    assert not (tmp_path / "was here").exists()


def test_ways_of_packing_that_are_fine(tmp_path):
    for how in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        archive(tmp_path / "a.npz", npy(good()), how)
        assert np.array_equal(load_masks(tmp_path / "a.npz", Video())[:], good() > 0)
    archive(tmp_path / "a.npz", npy(np.asfortranarray(good())))
    assert np.array_equal(load_masks(tmp_path / "a.npz", Video())[:], good() > 0)
    archive(tmp_path / "a.npz", npy(good()), name="../escaped.npy")  # read where it lies
    assert np.array_equal(load_masks(tmp_path / "a.npz", Video())[:], good() > 0)
    assert not (tmp_path.parent / "escaped.npy").exists()
    words = str(np.lib.format.header_data_from_array_1_0(good()))
    archive(tmp_path / "a.npz", header(words, 2) + good().tobytes())
    assert np.array_equal(load_masks(tmp_path / "a.npz", Video())[:], good() > 0)


MEASURED = """
import sys
sys.path.insert(0, sys.argv[2])
from videopainter.utils.report import peak_memory_mb
from videopainter.masks import MaskError, load_masks
class Video:
    size = (48, 64)
    def __len__(self): return 6
before = peak_memory_mb()
try:
    load_masks(sys.argv[1], Video())
except MaskError:
    print(peak_memory_mb() - before)
"""


def png(width, height):
    from test_guarded_opening import png

    return png(width, height)


@pytest.mark.parametrize("name", ["a.npz", "a.png", "a.tif"])
def test_bombs_take_little_memory(tmp_path, name):
    path = tmp_path / name
    if name == "a.npz":
        spaces(path)
    elif name == "a.png":
        sys.path.insert(0, str(Path(__file__).parent))
        path.write_bytes(png(13300, 13300))
    else:  # a picture of 60,000 x 60,000 of which nothing is there
        tags = [
            (256, 4, 60_000),
            (257, 4, 60_000),
            (258, 3, 8),
            (259, 3, 1),
            (262, 3, 1),
            (273, 4, 8),
            (277, 3, 1),
        ]
        tags += [(278, 4, 60_000), (279, 4, 10)]
        data = b"II*\0" + struct.pack("<IH", 8, len(tags))
        data += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
        path.write_bytes(data + bytes(4))
    full = [sys.executable, "-c", MEASURED, str(path), str(ROOT)]
    done = subprocess.run(full, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 300, "MiB"
