"""What a file of `torch.save` would make, found out without making it.

`torch.load(weights_only=True)` runs no foreign code, but still makes a `bytearray` of any length, inflates what is
deflated, and takes a stored length at its word. Here the list of instructions is gone through first: only tables,
lists, numbers, texts and dense tensors whose data is in the file are let through, so that what is loaded afterwards
is no larger than the file. Needs no PyTorch.
"""

from __future__ import annotations

import os
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from math import prod
from typing import Any, BinaryIO

from videopainter.utils.sentences import first_line, one_line
from videopainter.weights.errors import WeightsError, plain_file

LONGEST_PICKLE = 4_000_000  # bytes of instructions; published files have 0.2 million, long trainings 1.5
MOST_RECORDS = 100_000
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

# Bytes of a value, by the name of its storage.
STORAGES = {
    "DoubleStorage": 8,
    "FloatStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
}
_REBUILD = ("_rebuild_tensor", "_rebuild_tensor_v2")
_OTHER_TENSORS = {
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_meta_tensor_no_storage": "a tensor without values (of the meta device)",
}


@dataclass(frozen=True)
class Stored:
    """A tensor that the file holds: its shape, and the name of its storage's type, such as "FloatStorage"."""

    shape: tuple[int, ...]
    kind: str


@dataclass(frozen=True)
class _Storage:
    kind: str
    key: str
    count: int

    @property
    def bytes(self) -> int:
        return self.count * STORAGES[self.kind]


@dataclass(frozen=True)
class _Global:
    module: str
    name: str


class _Refused(Exception):
    """What is wrong with the instructions, in words that follow the file's name."""


def scan(path: str | os.PathLike) -> Any:
    """What the file holds: tables, lists, numbers, texts, and a `Stored` for every tensor.

    Raises WeightsError, one sentence, for a file that is missing, damaged, in no format of `torch.save`, or that
    holds anything else or more than its own size.
    """
    path = plain_file(path)
    try:
        with open(path, "rb") as file:
            if file.read(4) == b"PK\x03\x04":
                return _scan_zip(file)
            file.seek(0)
            return _scan_legacy(file)
    except _Refused as refused:
        raise WeightsError(f"'{path}' {refused}.") from None
    except OSError as error:
        raise WeightsError(f"'{path}' cannot be read: {first_line(error)}.") from None


# -- the two formats -------------------------------------------------------------------------------------


def _scan_zip(file: BinaryIO) -> Any:
    size = os.fstat(file.fileno()).st_size
    try:
        archive = zipfile.ZipFile(file)
        records = archive.infolist()
        if len(records) > MOST_RECORDS:
            raise _Refused(f"cannot be read as weights: it has {len(records)} records")
        if any(r.compress_type != zipfile.ZIP_STORED or r.file_size != r.compress_size for r in records):
            raise _Refused(
                "cannot be read as weights: its data is compressed, as that of published weights never is"
            )
        if sum(r.file_size for r in records) > size:
            raise _Refused("cannot be read as weights: its records are larger than the file")
        sizes = {r.filename: r.file_size for r in records}
        found = [name for name in sizes if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(sizes) != len(records) or len(found) != 1:
            raise _Refused("cannot be read as weights: it is another kind of archive")
        if sizes[found[0]] > LONGEST_PICKLE:
            raise _Refused(f"cannot be read as weights: {sizes[found[0]]} bytes of it are instructions")
        text = archive.read(found[0])
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        struct.error,
        NotImplementedError,
        RuntimeError,
        ValueError,
    ) as e:
        raise _Refused(f"is damaged or cut off: {first_line(e)}") from None
    machine = _Machine()
    content = machine.run(BytesIO(text))
    prefix = found[0].removesuffix("data.pkl") + "data/"
    for storage in machine.storages.values():
        if sizes.get(prefix + storage.key, -1) != storage.bytes:
            raise _Refused(
                f"is damaged: the data of '{one_line(storage.key, 60)}' is not as long as it should be"
            )
    return content


def _scan_legacy(file: BinaryIO) -> Any:
    """As PyTorch wrote until 1.6: a magic number, a version, facts, the content, the storages' keys, their data."""
    size = os.fstat(file.fileno()).st_size
    head = BytesIO(file.read(LONGEST_PICKLE))
    machine = _Machine()
    try:
        if _Machine().run(head) != _LEGACY_MAGIC:
            raise _Refused("is not a file of weights")
    except _Refused:
        raise _Refused(f"is not a file of weights, or is damaged ({size} bytes)") from None
    for _ in range(2):
        _Machine().run(head)
    content = machine.run(head)
    keys = _Machine().run(head)
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(machine.storages):
        raise _Refused("is damaged: the list of its data does not fit")
    end = head.tell() + sum(8 + storage.bytes for storage in machine.storages.values())
    if size < end:
        raise _Refused(f"is cut off: it should have {end} bytes, but has {size}")
    for key in keys:  # each is preceded by its length, which is what PyTorch goes by
        file.seek(head.tell())
        storage = machine.storages[str(key)]
        count = file.read(8)
        if len(count) < 8 or struct.unpack("<q", count)[0] != storage.count:
            raise _Refused(
                f"is damaged: the data of '{one_line(str(key), 60)}' is not as long as it should be"
            )
        head.seek(head.tell() + 8 + storage.bytes)
    return content


# -- the instructions ------------------------------------------------------------------------------------

_MARK = object()


class _Machine:
    """Goes through a pickle's instructions; `storages`: what it refers to, by key."""

    def __init__(self):
        self.storages: dict[str, _Storage] = {}

    def run(self, file: BinaryIO) -> Any:
        """What the next pickle of ``file`` makes."""
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        try:
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name == "STOP":
                    return self._stack.pop()
                self._step(opcode.name, argument)
        except (ValueError, LookupError, TypeError, EOFError, struct.error, UnicodeError) as error:
            raise _Refused(f"cannot be read as weights: {first_line(error)}") from None
        raise _Refused("cannot be read as weights: its instructions end early")

    def _step(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _TUPLES:
            count = _TUPLES[name]
            if len(stack) < count:
                raise IndexError("an instruction has no operand")
            stack[-count:] = [tuple(stack[-count:])]
        elif name == "TUPLE":
            stack.append(tuple(self._to_mark()))
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name in ("APPEND", "APPENDS"):
            items = self._to_mark() if name == "APPENDS" else [stack.pop()]
            self._extend(list).extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = self._to_mark() if name == "SETITEMS" else [stack.pop() for _ in range(2)][::-1]
            self._extend(dict).update(_pairs(items))
        elif name == "GLOBAL":
            stack.append(_global(argument))
        elif name == "REDUCE":
            arguments, function = stack.pop(), stack.pop()
            stack.append(self._make(function, arguments))
        elif name == "BUILD":  # what an OrderedDict of PyTorch knows of its modules; nothing is done with it
            stack.pop()
            if not isinstance(stack[-1], dict):
                raise _Refused("cannot be read as weights: it holds something else than tensors")
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name != "PROTO":
            raise _Refused(
                f"cannot be read as weights: it holds something else than tensors ({name.lower()})"
            )

    def _extend(self, kind: type) -> Any:
        """The container on top, which is about to take something."""
        if type(self._stack[-1]) is not kind:
            raise TypeError("an instruction has another operand")
        return self._stack[-1]

    def _to_mark(self) -> list:
        items = []
        while (item := self._stack.pop()) is not _MARK:
            items.append(item)
        return items[::-1]

    def _make(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, _Global) or not isinstance(arguments, tuple):
            raise TypeError("something is called that is no function")
        if function.name == "OrderedDict":
            return dict(_checked_pair(pair) for pair in (arguments[0] if arguments else ()))
        if function.name == "Size":
            return _sizes(arguments[0])
        if function.name == "_rebuild_parameter":
            tensor = arguments[0]
            if not isinstance(tensor, Stored):
                raise TypeError("a parameter is no tensor")
            return tensor
        if function.name in _REBUILD:
            storage, offset, shape, strides = arguments[:4]
            if not isinstance(storage, _Storage):
                raise TypeError("a tensor has no data")
            shape, strides, (offset,) = _sizes(shape), _sizes(strides), _sizes((offset,))
            if len(shape) != len(strides):
                raise TypeError("a tensor's strides are not as many as its sides")
            last = offset + sum((n - 1) * step for n, step in zip(shape, strides))
            # Fewer values than the shape has: one value stands for many, and a copy would be of any size.
            if prod(shape) and (last >= storage.count or prod(shape) > storage.count):
                raise _Refused("cannot be read as weights: a tensor is larger than its data")
            return Stored(shape, storage.kind)
        raise TypeError(f"{function.name} is called")

    def _storage(self, reference: Any) -> _Storage:
        if not isinstance(reference, tuple) or len(reference) < 5 or reference[0] != "storage":
            raise TypeError("a reference to data is damaged")
        _, kind, key, _, count = reference[:5]
        if len(reference) > 5 and reference[5] is not None:
            raise TypeError("a view of data is not understood")
        (count,) = _sizes((count,))
        if not isinstance(kind, _Global) or kind.name not in STORAGES or not isinstance(key, str):
            raise TypeError("a reference to data is damaged")
        storage = _Storage(kind.name, key, count)
        if self.storages.setdefault(key, storage) != storage:
            raise TypeError("two tensors disagree about their data")
        return storage


_VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def _global(argument: str) -> _Global:
    module, _, name = argument.partition(" ")
    if name in _OTHER_TENSORS and module == "torch._utils":
        raise _Refused(f"holds {_OTHER_TENSORS[name]}, which no published weights do")
    if (
        (module == "collections" and name == "OrderedDict")
        or (module == "torch._utils" and name in (*_REBUILD, "_rebuild_parameter"))
        or (module == "torch" and (name in STORAGES or name == "Size"))
    ):
        return _Global(module, name)
    raise _Refused(
        f"cannot be read as weights: it asks for '{one_line(f'{module}.{name}', 80)}', and weights are tensors only; "
        "nothing of it was run"
    )


def _sizes(values: Any) -> tuple[int, ...]:
    sizes = tuple(values)
    if not all(type(n) is int and 0 <= n < 2**62 for n in sizes):
        raise TypeError("a tensor's size is no number")
    return sizes


def _pairs(items: list) -> Iterator[tuple[Any, Any]]:
    if len(items) % 2:
        raise ValueError("a table has a name without a value")
    return (_checked_pair(pair) for pair in zip(items[::2], items[1::2]))


def _checked_pair(pair: Any) -> tuple[Any, Any]:
    """A table's keys are texts or numbers: others could exhaust the stack when they are compared."""
    key, value = pair
    if type(key) not in (str, int):
        raise _Refused("cannot be read as weights: it has tensors whose names are no texts")
    return key, value
