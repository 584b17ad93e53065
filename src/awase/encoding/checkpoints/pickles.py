"""The small part of pickle's language in which torch writes where tensors lie, interpreted without running anything.

A pickle is a program for a stack machine. `torch.load` hands it to Python's own machine, which can import and call
whatever it is told. This one knows the operations and the few names that a state dict or a TorchScript module needs;
a name becomes a plain value here, never the object of that name. Anything else raises `UnsafeCheckpoint`.
It knows nothing of files: a storage is a key and a length, and `archive.py` finds the bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from awase.errors import CheckpointError, UnsafeCheckpoint

MOST_STEPS = 500_000  # ViT-bigG with its optimiser's state takes about 150,000

STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


@dataclass(frozen=True)
class Storage:
    """Numbers that lie together in the archive."""

    dtype: str
    key: str
    size: int


@dataclass(frozen=True)
class Place:
    """A tensor as the pickle describes it: a view of a storage, not yet checked against it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass
class Module:
    """A TorchScript object: an inert holder of the attributes that the pickle sets."""

    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Name:
    """A global that the pickle names. `torch.FloatStorage` is this text here and nothing more."""

    text: str


_MARK = object()
_TENSOR, _PARAMETER = Name("torch._utils._rebuild_tensor_v2"), Name("torch._utils._rebuild_parameter")
_ORDERED = Name("collections.OrderedDict")
_LISTS = {Name(f"torch.jit._pickle.build_{kind}list") for kind in ("int", "double", "bool", "tensor")}
_KNOWN = {_TENSOR, _PARAMETER, _ORDERED, Name("torch.Size")} | _LISTS | {Name(f"torch.{name}") for name in STORAGES}


@dataclass(frozen=True)
class Pickle:
    """What a pickle describes, the storages that it names (by key), and the position after it."""

    value: Any
    storages: dict[str, Storage]
    end: int


def read_pickle(program: bytes, source: str, start: int = 0) -> Pickle:
    """Interprets the pickle at `start`.

    Raises UnsafeCheckpoint where it asks for a name or an operation outside the list, CheckpointError where it is
    damaged or longer than any real checkpoint's."""
    machine = _Machine(program, source, start)
    try:
        value = machine.run()
        return Pickle(value, machine.storages, machine.position)
    except (IndexError, KeyError, ValueError, TypeError, AttributeError, struct.error, OverflowError) as problem:
        raise CheckpointError(f"{source} is damaged near byte {machine.position} of its list of tensors") from problem


class _Machine:
    def __init__(self, program: bytes, source: str, start: int) -> None:
        self.program, self.source, self.position = program, source, start
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}
        self.steps = 0

    def run(self) -> Any:
        while self.steps < MOST_STEPS:
            self.steps += 1
            operation = self.take(1)
            if operation == b".":
                return self.stack.pop()
            step = _STEPS.get(operation)
            if step is None:
                self.refuse(f"the pickle operation {operation!r}")
            step(self)
        raise CheckpointError(
            f"{self.source} lists its tensors in more than {MOST_STEPS} steps; no known model needs so"
        )

    def take(self, count: int) -> bytes:
        taken = self.program[self.position : self.position + count]
        if len(taken) != count:
            raise ValueError("the pickle ends too early")
        self.position += count
        return taken

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        end = self.program.index(b"\n", self.position)
        return self.take(end + 1 - self.position)[:-1].decode()

    def since_mark(self) -> list[Any]:
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
            if at < 0:
                raise ValueError("no mark on the stack")
        taken = self.stack[at + 1 :]
        del self.stack[at:]
        return taken

    def refuse(self, what: str) -> NoReturn:
        raise UnsafeCheckpoint(
            f"{self.source} asks for {what[:200]}, which a list of tensors does not need. Nothing was run. "
            "Use a safetensors copy of this checkpoint, or save its plain state dict again."
        )

    def name(self, module: Any, attribute: Any) -> None:
        name = Name(f"{module}.{attribute}")
        if name not in _KNOWN and not name.text.startswith("__torch__."):
            self.refuse(f"the Python object {name.text}")
        self.stack.append(name)

    def call(self) -> None:
        arguments = self.stack.pop()
        name = self.stack.pop()
        if not isinstance(name, Name) or not isinstance(arguments, tuple):
            self.refuse("a call of something that is no known name")
        if name == _TENSOR:
            storage, offset, shape, strides = arguments[:4]
            self.stack.append(_place(storage, offset, shape, strides))
        elif name == _PARAMETER:
            self.stack.append(arguments[0])
        elif name == _ORDERED and not arguments:
            self.stack.append({})
        elif name.text == "torch.Size" or name in _LISTS:
            self.stack.append(arguments[0])
        else:
            self.refuse(f"a call of {name.text}")

    def new(self) -> None:
        arguments, name = self.stack.pop(), self.stack.pop()
        if arguments != () or not isinstance(name, Name) or not name.text.startswith("__torch__."):
            self.refuse("an object of a class that is not TorchScript's")
        self.stack.append(Module())

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Module) and isinstance(state, dict):
            self.steps += len(state)  # one operation copies all of it
            target.attributes.update(state)
        elif not isinstance(target, dict):  # a state dict carries `_metadata`, which nothing here needs
            self.refuse("the state of an object to be set")

    def storage(self) -> None:
        tag, kind, key, _, size = self.stack.pop()[:5]
        dtype = STORAGES.get(kind.text.removeprefix("torch."))
        if tag != "storage" or dtype is None or type(key) is not str or type(size) is not int:
            self.refuse("a persistent object that is no storage")
        if not 0 <= size < 2**62:
            raise ValueError("a storage of a size that cannot be")
        self.storages[key] = Storage(dtype, key, size)
        self.stack.append(self.storages[key])

    def set_items(self) -> None:
        items = self.since_mark()
        self.set_pairs(items[::2], items[1::2])

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.set_pairs([key], [value])

    def set_pairs(self, keys: list[Any], values: list[Any]) -> None:
        """Keys are plain: the hash of a nested tuple can take for ever, and nothing here is keyed by one."""
        if not all(type(key) in (str, int, float, bool, type(None)) for key in keys):
            self.refuse("a dictionary with keys that are not plain")
        self.stack[-1].update(zip(keys, values, strict=True))

    def append(self, values: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            self.refuse("values to be appended to something that is no list")
        self.stack[-1].extend(values)

    def pop_tuple(self, count: int) -> None:
        at = len(self.stack) - count
        if at < 0:
            raise ValueError("the stack is too short")
        self.stack[at:] = [tuple(self.stack[at:])]


def _place(storage: Any, offset: Any, shape: Any, strides: Any) -> Place:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, Storage) or not all(type(n) is int and 0 <= n < 2**62 for n in numbers):
        raise ValueError("a tensor is not a view of a storage")
    if len(shape) != len(strides) or len(shape) > 8:
        raise ValueError("a tensor's shape and strides do not belong together")
    return Place(storage, offset, tuple(shape), tuple(strides))


def _push(value: Any) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(value)


def _number(form: str) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(machine.number(form))


def _text(length: str) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(machine.take(machine.number(length)).decode())


def _put(form: str) -> Callable[[_Machine], None]:
    return lambda machine: machine.memo.__setitem__(machine.number(form), machine.stack[-1])


def _get(form: str) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(machine.memo[machine.number(form)])


def _long(machine: _Machine) -> None:
    machine.stack.append(int.from_bytes(machine.take(machine.number("<B")), "little", signed=True))


def _frame(machine: _Machine) -> None:
    machine.take(8)  # a hint about lengths


def _stack_global(machine: _Machine) -> None:
    attribute, module = machine.stack.pop(), machine.stack.pop()
    machine.name(module, attribute)


_STEPS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": lambda m: None if 2 <= m.number("<B") <= 5 else m.refuse("an unknown version of pickle"),
    b"\x95": _frame,
    b"(": _push(_MARK),
    b"N": _push(None),
    b"\x88": _push(True),
    b"\x89": _push(False),
    b")": _push(()),
    b"}": lambda m: m.stack.append({}),
    b"]": lambda m: m.stack.append([]),
    b"J": _number("<i"),
    b"K": _number("<B"),
    b"M": _number("<H"),
    b"G": _number(">d"),
    b"\x8a": _long,
    b"X": _text("<I"),
    b"\x8c": _text("<B"),
    b"q": _put("<B"),
    b"r": _put("<I"),
    b"\x94": lambda m: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    b"h": _get("<B"),
    b"j": _get("<I"),
    b"t": lambda m: m.stack.append(tuple(m.since_mark())),
    b"\x85": lambda m: m.pop_tuple(1),
    b"\x86": lambda m: m.pop_tuple(2),
    b"\x87": lambda m: m.pop_tuple(3),
    b"s": _Machine.set_item,
    b"u": _Machine.set_items,
    b"a": lambda m: m.append([m.stack.pop()]),
    b"e": lambda m: m.append(m.since_mark()),
    b"c": lambda m: m.name(m.line(), m.line()),
    b"\x93": _stack_global,
    b"R": _Machine.call,
    b"\x81": _Machine.new,
    b"b": _Machine.build,
    b"Q": _Machine.storage,
}
