"""A CUDA device that is not there: fake tensors have shapes, dtypes and a device, and neither memory nor values.

`pretend()` makes PyTorch without CUDA believe in a GPU, for good: it belongs into a process of its own, before anything
that asks for one is imported. Under `FakeGPU` everything that is made is fake, and it counts what the code would do
on the real device: live bytes, FLOPs, traffic of elementwise kernels, copies between host and device, waits of the
host for the device, float32 copies of half-precision tensors and the attention kernels taken.

What it cannot know: time, workspaces of cuDNN and cuBLAS, fragmentation of the allocator, and numbers. A value that
the host asks for is 1, and `nonzero` finds `found` of all elements.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections import Counter, defaultdict
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.flop_counter import flop_registry

GIB = 2**30
DEVICE = torch.device("cuda", 0)
ATEN = torch.ops.aten
_CUDA, _META, _DEVICE_TYPES = 1, 14, 21  # c10::DeviceType
_current: list[FakeGPU] = []


@dataclass
class Counts:
    """What one stage did. Bytes and floating point operations, as numbers."""

    peak: int = 0  # live bytes on the device at most
    host_peak: int = 0
    flops: int = 0
    kernels: int = 0
    traffic: int = 0  # bytes read and written by kernels that multiply no matrices
    uploads: int = 0
    downloads: int = 0
    pageable: int = 0  # of both, bytes from or to memory that is not pinned
    largest_copy: int = 0
    copies: int = 0
    waits: Counter = field(default_factory=Counter)  # of the host for the device, by cause
    upcasts: int = 0  # bytes of float32 made of half precision
    largest_upcast: int = 0
    attention: Counter = field(default_factory=Counter)  # calls by kernel
    wall: float = 0.0


class FakeGPU(TorchDispatchMode):
    """Counts by stage; see the module.

    Args:
        capacity: bytes of the device; more raises `torch.OutOfMemoryError`, as a real one does.
        found: share of the elements that `nonzero` finds, or a function of the tensor's shape.
        upcast_from: bytes from which a float32 copy is counted.
    """

    def __init__(self, capacity: int = 1 << 50, found=0.22, upcast_from: int = 1 << 20):
        super().__init__()
        self.capacity, self.found, self.upcast_from = capacity, found, upcast_from
        self.live, self.host_live = 0, 0
        self.stages: dict[str, Counts] = defaultdict(Counts)
        self._stack = ["other"]
        self._known: dict[int, tuple] = {}  # storage's address: (device type, bytes); until it is freed
        self._pinned: set[int] = set()
        self._flops_of = flop_registry

    @property
    def now(self) -> Counts:
        """Counts of the stage at work."""
        return self.stages[self._stack[-1]]

    @contextmanager
    def stage(self, name: str):
        """What is done meanwhile counts for this stage."""
        self._stack.append(name)
        self._note_peak()
        try:
            yield self.now
        finally:
            self._stack.pop()
            self._note_peak()

    @contextmanager
    def running(self):
        """Everything made meanwhile is fake."""
        with ExitStack() as stack:
            stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
            stack.enter_context(self)
            stack.enter_context(_Functions(self))
            _current.append(self)
            stack.callback(_current.pop)
            yield self

    # --- storages -------------------------------------------------------------------------------------------

    def track(self, tensor: torch.Tensor) -> None:
        """Count the tensor's storage until it is freed."""
        if not isinstance(tensor, FakeTensor):
            return
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address in self._known:
            return
        size, kind = storage.nbytes(), tensor.fake_device.type
        self._known[address] = (kind, size)
        weakref.finalize(storage, self._freed, address)
        if kind == "cuda":
            self.live += size
        else:
            self.host_live += size
        self._note_peak()
        if self.live > self.capacity:
            raise torch.OutOfMemoryError(
                f"CUDA out of memory. Tried to allocate {size / 2**20:.2f} MiB (fake device)."
            )

    def _freed(self, address: int) -> None:
        kind, size = self._known.pop(address)
        self._pinned.discard(address)
        if kind == "cuda":
            self.live -= size
        else:
            self.host_live -= size

    def _note_peak(self) -> None:
        for name in set(self._stack):
            counts = self.stages[name]
            counts.peak = max(counts.peak, self.live)
            counts.host_peak = max(counts.host_peak, self.host_live)

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        """A pinned copy."""
        pinned = torch.empty_like(tensor)
        self.track(pinned)
        self._pinned.add(pinned.untyped_storage()._cdata)
        return pinned

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        """Whether it is such a copy, or a view of one."""
        return tensor.untyped_storage()._cdata in self._pinned

    # --- operations -----------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        packet = func._overloadpacket
        if (
            torch.is_inference_mode_enabled()
            and packet not in self._flops_of
            and packet is not torch.ops.prim.device
        ):
            with self:  # composite operations come whole there
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        if packet is ATEN._local_scalar_dense:
            return self._value(args[0])
        if packet in (ATEN.nonzero, ATEN.masked_select):
            return self._found(packet, *args)
        if packet in (ATEN.index, ATEN.index_put, ATEN.index_put_, ATEN._index_put_impl_):
            args = (args[0], self._without_bools(args[1]), *args[2:])
        if packet is ATEN.record_stream:
            return None
        if packet in (ATEN._to_copy, ATEN.copy_):
            for tensor in args:
                if isinstance(tensor, FakeTensor):
                    tensor.constant = None  # a single value that is known would really be copied
        try:
            out = func(*args, **kwargs)
        except torch._subclasses.fake_tensor.UnsupportedOperatorException as error:
            raise RuntimeError(f"The fake device does not know {func}.") from error
        made = [x for x in tree_flatten(out)[0] if isinstance(x, torch.Tensor)]
        given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
        for tensor in made:
            self.track(tensor)
        self._count(packet, func, args, kwargs, given, made, out)
        return out

    def _count(self, packet, func, args, kwargs, given, made, out) -> None:
        counts = self.now
        if packet in (ATEN._to_copy, ATEN.copy_):
            source, target = (args[1], args[0]) if packet is ATEN.copy_ else (args[0], out)
            if _kind(source) != _kind(target):
                self._copied(source, target, kwargs.get("non_blocking") or (len(args) > 2 and args[2]))
                return
            if target.dtype == torch.float32 and source.dtype in (torch.bfloat16, torch.float16):
                size = target.numel() * 4
                if size >= self.upcast_from and _kind(target) == "cuda":
                    counts.upcasts += size
                    counts.largest_upcast = max(counts.largest_upcast, size)
        if not any(_kind(x) == "cuda" for x in made) or _is_view(func):
            return
        counts.kernels += 1
        if packet in self._flops_of:
            counts.flops += self._flops_of[packet](*args, **kwargs, out_val=out)
            if "attention" in func._schema.name:
                counts.attention[func._schema.name.removeprefix("aten::_scaled_dot_product_")] += 1
        else:
            counts.traffic += sum(_size(x) for x in (*given, *made) if _kind(x) == "cuda")

    def _copied(self, source, target, non_blocking) -> None:
        counts, size = self.now, _size(target)
        up = _kind(target) == "cuda"
        pinned = self.is_pinned(source if up else target)
        counts.copies += 1
        counts.uploads += size * up
        counts.downloads += size * (not up)
        counts.pageable += size * (not pinned)
        counts.largest_copy = max(counts.largest_copy, size)
        if not up and not (pinned and non_blocking):
            counts.waits["download"] += 1
        if up and not pinned:
            counts.waits["pageable upload"] += 1

    def _value(self, tensor):
        if _kind(tensor) == "cuda":
            self.now.waits["item"] += 1
        if tensor.dtype == torch.bool:
            return True
        return 1.0 if tensor.is_floating_point() else 1

    def _share(self, shape) -> int:
        if callable(self.found):
            return int(self.found(tuple(shape)))
        return max(1, int(self.found * int(np.prod(shape))))

    def _found(self, packet, tensor, mask=None):
        if _kind(tensor) == "cuda":
            self.now.waits["nonzero"] += 1
        wanted = tensor if mask is None else mask
        count = self._share(wanted.shape)
        if mask is None:
            out = torch.empty(count, tensor.ndim, dtype=torch.int64, device=tensor.device)
        else:
            out = torch.empty(count, dtype=tensor.dtype, device=tensor.device)
        self.track(out)
        return out

    def _without_bools(self, indices) -> list:
        out = []
        for index in indices:
            if index is not None and index.dtype == torch.bool:
                if _kind(index) == "cuda":
                    self.now.waits["boolean index"] += 1
                count = self._share(index.shape)
                out += [torch.empty(count, dtype=torch.int64, device=index.device) for _ in range(index.ndim)]
            else:
                out.append(index)
        return out


class _Functions(TorchFunctionMode):
    """What is decided above the dispatcher: devices by name, pinning, numpy, streams and the attention kernel."""

    def __init__(self, gpu: FakeGPU):
        super().__init__()
        self._gpu = gpu

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if isinstance(kwargs.get("generator"), FakeGenerator):
            kwargs["generator"] = None
        if kwargs.get("device") is not None:
            kwargs["device"] = _indexed(kwargs["device"])
        if kwargs.pop("pin_memory", False):
            return self._gpu.pin(func(*args, **kwargs))
        if name == "to":
            args = tuple(_indexed(x) if isinstance(x, (str, torch.device)) else x for x in args)
        elif name == "cuda":
            return args[0].to(DEVICE)
        elif name == "tensor" and kwargs.get("device") is not None:
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        elif name == "pin_memory":
            return args[0] if self._gpu.is_pinned(args[0]) else self._gpu.pin(args[0])
        elif name == "is_pinned":
            return self._gpu.is_pinned(args[0])
        elif name == "record_stream":
            return None
        elif name == "numpy":
            kind = torch.empty(0, dtype=args[0].dtype, device="meta").dtype
            return np.broadcast_to(np.zeros((), _NUMPY[kind]), tuple(args[0].shape))
        elif name == "scaled_dot_product_attention":
            return _attend(*args, **kwargs)
        elif name == "__set__" and all(isinstance(x, FakeTensor) for x in args[:2]):  # of `data`
            func(*args, **kwargs)
            args[0].fake_device = args[1].fake_device
            return None
        return func(*args, **kwargs)


_NUMPY = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.float16: np.float16,
    torch.uint8: np.uint8,
    torch.int64: np.int64,
    torch.int32: np.int32,
    torch.bool: np.bool_,
}


def _attend(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """The kernel that PyTorch takes on a GPU of compute capability 8 or more."""
    if _kind(query) != "cuda":
        return ATEN._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale
        )[0]
    half = query.dtype in (torch.bfloat16, torch.float16)
    if half and attn_mask is None:
        return ATEN._scaled_dot_product_flash_attention(
            query, key, value, dropout_p, is_causal, False, scale=scale
        )[0]
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype)
    return ATEN._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, False, dropout_p, is_causal, scale=scale
    )[0]


class FakeGenerator(torch.Generator):
    """A generator on the fake device."""

    def __new__(cls):
        return super().__new__(cls)

    @property
    def device(self) -> torch.device:
        return DEVICE


class _Stream:
    """Takes what is asked of a stream."""

    device = DEVICE

    def __init__(self, *_, **__):
        pass

    def __getattr__(self, name):
        return lambda *_, **__: None


def _kind(tensor) -> str:
    return tensor.fake_device.type if isinstance(tensor, FakeTensor) else tensor.device.type


def _size(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _is_view(func) -> bool:
    return any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)


def _indexed(device):
    device = torch.device(device)
    return DEVICE if device.type == "cuda" else device


def _moved(module: torch.nn.Module, fn, recurse: bool = True) -> torch.nn.Module:
    """`Module._apply` as it is for real tensors: parameters keep their identity and get other data."""
    if recurse:
        for child in module.children():
            child._apply(fn)
    with torch.no_grad():
        for parameter in module._parameters.values():
            if parameter is not None:
                parameter.data = fn(parameter.data)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = fn(buffer)
    return module


def _memory(*_) -> tuple[int, int]:
    gpu = _current[-1] if _current else SimpleNamespace(capacity=80 * GIB, live=0)
    return max(0, gpu.capacity - gpu.live), gpu.capacity


def pretend() -> None:
    """Make this process believe in a GPU of compute capability 9; only under `FakeGPU.running` it can be used."""
    if torch.version.cuda is not None and torch.cuda.is_available():
        raise RuntimeError("There is a real GPU here; hide it (CUDA_VISIBLE_DEVICES=) for the fake one.")
    # Slices and copies hold a guard of the device. PyTorch without CUDA has none; that of the meta device does nothing.
    library = ctypes.CDLL(os.path.join(os.path.dirname(torch.__file__), "lib", "libc10.so"))
    guards = (ctypes.c_void_p * _DEVICE_TYPES).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    guards[_CUDA] = guards[_META]
    for name, value in {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_capability": lambda *_: (9, 0),
        "get_device_name": lambda *_: "fake",
        "get_device_properties": lambda *_: SimpleNamespace(
            total_memory=_memory()[1], major=9, minor=0, multi_processor_count=132, name="fake"
        ),
        "is_bf16_supported": lambda *_: True,
        "mem_get_info": _memory,
        "memory_reserved": lambda *_: _current[-1].live if _current else 0,
        "memory_allocated": lambda *_: _current[-1].live if _current else 0,
        "empty_cache": lambda: None,
        "synchronize": _waited,
        "ipc_collect": lambda: None,
        "reset_peak_memory_stats": lambda *_: None,
        "Stream": _Stream,
        "Event": _Stream,
        "stream": lambda *_: nullcontext(),
        "current_stream": lambda *_: _Stream(),
        "default_stream": lambda *_: _Stream(),
        "device": lambda *_: nullcontext(),
        "set_device": lambda *_: None,
    }.items():
        setattr(torch.cuda, name, value)
    torch.backends.cuda.can_use_flash_attention = lambda params, debug=False: params.half
    torch.backends.cuda.SDPAParams = lambda query, *_: SimpleNamespace(
        half=query.dtype in (torch.bfloat16, torch.float16)
    )
    torch.nn.Module._apply = _moved


def _waited(*_) -> None:
    if _current:
        _current[-1].now.waits["synchronize"] += 1


def on_device(tree):
    """Fake copies on the device, of tensors anywhere in a structure."""
    return tree_map(lambda x: x.to(DEVICE) if isinstance(x, torch.Tensor) else x, tree)
