"""A bounded run of mutated files, with fixed seeds: videos, masks, tables, checkpoints, configurations.

Each is tried in this process through the library's own door. Right is a result, or one sentence as a ValueError or
OSError; whatever else comes up, or takes long or much memory, fails with the seed that makes it again.
"""

import csv
import io
import json
import random
import resource
import signal
import zipfile
from fractions import Fraction

import numpy as np
import pytest

N, H, W = 6, 48, 64
SLOWEST = 20  # seconds for one try
MOST_MEMORY = 2_000_000  # KiB
LONGEST = 1500  # characters of a sentence, the path in it included

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class Source:
    size = (H, W)

    def __len__(self):
        return N


# -- mutations ---------------------------------------------------------------------------------------------


def bits(data, rng):
    out = bytearray(data)
    for _ in range(rng.choice((1, 3, 30))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def cut(data, rng):
    return data[: rng.randrange(len(data))]


def zeros(data, rng):
    at, much = rng.randrange(len(data)), rng.choice((4, 64, 1000))
    return data[:at] + bytes(min(much, len(data) - at)) + data[at + much :]


def numbers(data, rng):
    """An extreme number somewhere near the beginning or the end, where formats keep their lengths."""
    out = bytearray(data)
    at = rng.choice((rng.randrange(min(300, len(out))), -1 - rng.randrange(min(300, len(out)))))
    value = rng.choice((b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\xff" * 8))
    out[at : at + len(value)] = value
    return bytes(out)


def doubled(data, rng):
    at, end = sorted(rng.randrange(len(data)) for _ in range(2))
    return data[:end] + data[at:]


def spliced(data, rng):
    at, end = sorted(rng.randrange(len(data)) for _ in range(2))
    return data[:at] + rng.randbytes(rng.choice((1, 8, 200))) + data[end:]


MUTATIONS = (bits, cut, zeros, numbers, doubled, spliced)


def mutated(data, rng):
    for _ in range(rng.choice((1, 1, 2))):
        data = rng.choice(MUTATIONS)(data, rng) or b"\0"
    return data


ODD = (
    None,
    True,
    -1,
    0,
    10**30,
    1e308,
    float("nan"),
    "",
    "8",
    "x" * 100_000,
    [],
    {},
    [[]],
    [None],
    {"a": [1]},
    [10**9] * 3,
)


def mutated_json(value, rng):
    """A configuration with one or two values, names or levels changed, or with its text damaged."""
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 2))):
        place = value
        while isinstance(place, dict) and place:
            key = rng.choice(sorted(place))
            if isinstance(place[key], dict) and place[key] and rng.random() < 0.7:
                place = place[key]
                continue
            kind = rng.random()
            if kind < 0.75:
                place[key] = rng.choice(ODD)
            elif kind < 0.9:
                del place[key]
            else:
                place[key + rng.choice(("", "_", "\0", "é"))] = place.pop(key)
            break
    text = json.dumps(value).encode()
    return mutated(text, rng) if rng.random() < 0.2 else text


# -- what is tried -----------------------------------------------------------------------------------------


def videos(folder):
    from videopainter.video import VideoWriter, open_video

    frames = (
        np.random.default_rng(0).integers(0, 255, (N, H // 8, W // 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    )
    wholes = []
    for name, codec in (
        ("a.mp4", None),
        ("a.mkv", "ffv1"),
        ("a.webm", "vp9"),
        ("a.gif", None),
        ("a.avi", None),
    ):
        with VideoWriter(folder / name, Fraction(10), (H, W), codec=codec) as writer:
            writer.write(frames)
        wholes.append((folder / name, (folder / name).read_bytes()))

    def attempt(rng):
        path, whole = rng.choice(wholes)
        path.write_bytes(mutated(whole, rng))
        with open_video(path) as video:
            for i in range(0, len(video), max(1, len(video) // 8)):
                assert video[i].dtype == np.uint8
                if i > 200:
                    break

    return attempt


def masks(folder):
    from PIL import Image

    from videopainter.masks import load_masks

    labels = np.zeros((N, H, W), np.uint8)
    labels[:, 10:20, 10:20] = 4
    np.savez(folder / "a.npz", labels)
    np.savez_compressed(folder / "b.npz", labels)
    np.savez(folder / "c.npz", np.asfortranarray(labels.astype(np.int64)))
    wholes = [(folder / name, (folder / name).read_bytes()) for name in ("a.npz", "b.npz", "c.npz")]
    for name in ("a.png", "a.tif", "a.gif", "a.jpg", "a.bmp", "a.webp"):
        Image.fromarray(labels[0] * 60).save(folder / name)
        wholes.append((folder / name, (folder / name).read_bytes()))

    def attempt(rng):
        path, whole = rng.choice(wholes)
        if path.suffix == ".npz" and rng.random() < 0.5:  # the archive is whole, the array in it is not
            with zipfile.ZipFile(io.BytesIO(whole)) as archive:
                data = archive.read("arr_0.npy")
            with zipfile.ZipFile(
                path, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
            ) as archive:
                archive.writestr("arr_0.npy", mutated(data[:128], rng) + data[128:])
        else:
            path.write_bytes(mutated(whole, rng))
        load_masks(path, Source(), rng.choice((None, 4)))

    return attempt


def tables(folder):
    from videopainter.batch.rows import read_rows

    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["video", "mask", "prompt", "mask_id", "start_frame", "end_frame", "fps", "truth"])
    for i in range(8):
        table.writerow([f"a{i}.mp4", "a.npz", 'a "wall",\nred', i, 0, 9, "30000/1001", ""])
    reference = "path,mask_id,start_frame,end_frame,fps,caption\n" + "123456.0.mp4,2,0,49,23.976,x\n" * 8
    wholes = [text.getvalue().encode(), reference.encode()]

    def attempt(rng):
        data = mutated(rng.choice(wholes), rng)
        if rng.random() < 0.3:
            cell = rng.choice((b"9" * 5000, b"1e99999999", b"../" * 50, b"\0", b"\xff", b'"', b"x" * 200_000))
            data = data.replace(rng.choice((b"9", b"a.npz", b"x", b"0")), cell, 1)
        (folder / "a.csv").write_bytes(data)
        for row in read_rows(folder / "a.csv"):
            for path in (getattr(row, "video", folder), getattr(row, "mask", folder)):
                assert ".." not in path.relative_to(folder).parts

    return attempt


def checkpoints(folder):
    import torch
    from safetensors.torch import save_file

    from videopainter.weights import tensor_shapes
    from videopainter.weights.load import load_checkpoint, load_tensors

    torch.manual_seed(0)
    state = {"a": torch.randn(3, 4), "b": torch.randn(2).half(), "n": torch.arange(5)}
    save_file(state, folder / "a.safetensors")
    torch.save(state, folder / "a.pth")
    torch.save({"model": state, "epoch": 3}, folder / "old.pth", _use_new_zipfile_serialization=False)
    wholes = [(folder / name, (folder / name).read_bytes()) for name in ("a.safetensors", "a.pth", "old.pth")]

    def attempt(rng):
        path, whole = rng.choice(wholes)
        path.write_bytes(mutated(whole, rng))
        rng.choice((load_tensors, tensor_shapes, load_checkpoint))(path)

    return attempt


def configurations(folder):
    import torch
    from safetensors.torch import save_file

    from videopainter.dstt.weights import WEIGHTS, load_model
    from videopainter.e2fgvi.configuration import E2FGVIConfig
    from videopainter.e2fgvi.model import E2FGVIModel
    from videopainter.propainter.configuration import ProPainterConfig
    from videopainter.propainter.modeling import ProPainterModel
    from videopainter.segmentation.sam2.checkpoint import read
    from videopainter.weights import read_config
    from videopainter.weights.check import safetensors_header
    from videopainter.weights.load import load_tensors

    save_file({"w": torch.zeros(1)}, folder / "model.safetensors", {"format": "pt"})
    ours, words = load_tensors(WEIGHTS), safetensors_header(WEIGHTS)[1]
    sam2 = {
        "model_type": "sam2_video",
        "image_size": 1024,
        "vision_config": {"backbone_config": {"blocks_per_stage": [2, 6, 36, 4], "hidden_size": 144}},
        "memory_attention_num_layers": 4,
    }
    diffusers = {"_class_name": "X", "num_layers": 42, "sample_height": 60, "block_out_channels": [128, 256]}
    kinds = [
        (E2FGVIModel.from_pretrained, vars(E2FGVIConfig())),
        (ProPainterModel.from_pretrained, json.loads(ProPainterConfig().to_json_string())),
        (read, sam2),
        (lambda place: read_config(place / "config.json"), diffusers),
        (None, json.loads(words["config"])),
    ]

    def attempt(rng):
        load, config = rng.choice(kinds)
        text = mutated_json(config, rng)
        if load is None:
            metadata = {**words, "config": text.decode(errors="replace")}
            save_file(ours, folder / "ours.safetensors", metadata)
            load_model(folder / "ours.safetensors")
        else:
            (folder / "config.json").write_bytes(text)
            load(folder)

    return attempt


KINDS = {
    videos: 2500,
    masks: 1500,
    tables: 3000,
    checkpoints: 2500,
    configurations: 400,
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_mutations(tmp_path, kind):
    attempt, refused = kind(tmp_path), 0
    before = signal.signal(signal.SIGALRM, _too_slow)
    try:
        for seed in range(KINDS[kind]):
            signal.alarm(SLOWEST)
            try:
                attempt(random.Random(f"{kind.__name__} {seed}"))
            except (ValueError, OSError) as error:
                text = str(error)
                assert "\n" not in text and len(text) <= LONGEST, f"seed {seed} says: {text[:2000]!r}"
                refused += 1
            except (Exception, TooSlow) as error:
                raise AssertionError(
                    f"seed {seed} raises {type(error).__name__}: {str(error)[:500]}"
                ) from error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert refused > KINDS[kind] / 20  # else nothing was damaged
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < MOST_MEMORY


class TooSlow(BaseException):
    """Nothing that a loader may take for an error of its own."""


def _too_slow(number, frame):
    raise TooSlow(f"no answer after {SLOWEST} s")
