"""Checkpoints from strangers: nothing in them runs, and each is refused by name, quickly and in little memory."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import shutil
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import references
from awase.encoding.checkpoints import open_checkpoint
from awase.errors import AwaseError, CheckpointError, UnsafeCheckpoint

SECONDS, BYTES = 1.0, 200 * 2**20
Maker = Callable[[Path, Path], Path]  # (empty folder, marker) -> what to open
MAKERS: dict[str, tuple[Maker, type[AwaseError]]] = {}


def unsafe(maker: Maker) -> Maker:
    MAKERS[maker.__name__] = maker, UnsafeCheckpoint
    return maker


def damaged(maker: Maker) -> Maker:
    MAKERS[maker.__name__] = maker, CheckpointError
    return maker


# ---- small parts of pickles ----------------------------------------------------------------------------------------

FLOAT_STORAGE = b"ctorch\nFloatStorage\n"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
ORDERED = b"ccollections\nOrderedDict\n"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def whole(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def sizes(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(whole, values)) + b"t"


def storage(key: str = "0", size: int = 4) -> bytes:
    return b"(" + text("storage") + FLOAT_STORAGE + text(key) + text("cpu") + whole(size) + b"tQ"


def tensor(shape: tuple[int, ...] = (4,), strides: tuple[int, ...] = (1,), offset: int = 0, **of: Any) -> bytes:
    return REBUILD + b"(" + storage(**of) + whole(offset) + sizes(shape) + sizes(strides) + b"\x89" + ORDERED + b")RtR"


def entry(name: str, value: bytes) -> bytes:
    return b"\x80\x02}(" + text(name) + value + b"u."


def archive(folder: Path, program: bytes, parts: dict[str, bytes] | None = None, **how: Any) -> Path:
    """A zip as torch writes it."""
    file = folder / "model.pt"
    with zipfile.ZipFile(file, "w", **how) as whole_file:
        whole_file.writestr("archive/data.pkl", program)
        for name, content in ({"archive/data/0": bytes(16)} if parts is None else parts).items():
            whole_file.writestr(name, content)
    return file


def call(module: str, name: str, *arguments: str) -> bytes:
    """A pickle that calls module.name with texts."""
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(map(text, arguments)) + b"tR"


# ---- code in a pickle ----------------------------------------------------------------------------------------------


class Reduced:
    """What an attacker's class does: names a callable and its arguments."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.parts = function, arguments

    def __reduce__(self) -> tuple[Any, Any]:
        return self.parts


CALLS: dict[str, Callable[[str], bytes]] = {
    "os_system": lambda m: call("os", "system", f"touch {m}"),
    "posix_system": lambda m: call("posix", "system", f"touch {m}"),
    "builtins_eval": lambda m: call("builtins", "eval", f"open({m!r}, 'w')"),
    "builtins_exec": lambda m: call("builtins", "exec", f"open({m!r}, 'w')"),
    "python2_eval": lambda m: call("__builtin__", "eval", f"open({m!r}, 'w')"),
    "builtins_import": lambda m: call("builtins", "__import__", "antigravity"),
    "builtins_open": lambda m: call("builtins", "open", m, "w"),
    "builtins_getattr": lambda m: b"cbuiltins\ngetattr\n(cos\nsystem\n" + text("__call__") + b"tR",
    "subprocess_popen": lambda m: b"csubprocess\nPopen\n((" + text("touch") + text(m) + b"ltR",
    "pathlib_touch": lambda m: call("pathlib", "PosixPath.touch", m),
    "dotted_global": lambda m: call("torch", "os.system", f"touch {m}"),
    "runpy_run_path": lambda m: call("runpy", "run_path", m),
    "importlib_import": lambda m: call("importlib", "import_module", "this"),
    "functools_partial": lambda m: b"cfunctools\npartial\n(cos\nsystem\n" + text(f"touch {m}") + b"tR)R",
    "operator_attrgetter": lambda m: call("operator", "attrgetter", "system"),
    "codecs_encode": lambda m: call("_codecs", "encode", m, "latin1"),
    "torch_load": lambda m: call("torch", "load", m),
    "torch_serialization_load": lambda m: call("torch.serialization", "load", m),
    "torch_hub_load": lambda m: call("torch.hub", "load", "stranger/repo", "model"),
    "torch_cpp_extension": lambda m: call("torch.utils.cpp_extension", "load_inline", "x", m),
    "torch_jit_load": lambda m: call("torch.jit", "load", m),
    "numpy_object_array": lambda m: call("numpy.core.multiarray", "_reconstruct", "x"),
    "dill_function": lambda m: call("dill._dill", "_create_function", m),
    "custom_module": lambda m: call("my_models.clip", "Payload", m),
    "namespace": lambda m: b"cargparse\nNamespace\n)\x81}b",
    "stack_global": lambda m: b"\x8c\x02os\x8c\x06system\x93" + b"(" + text(f"touch {m}") + b"tR",
    "stack_global_from_memo": lambda m: b"\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93(" + text(m) + b"tR",
    "inst": lambda m: b"(" + text(f"touch {m}") + b"ios\nsystem\n",
    "obj": lambda m: b"(cos\nsystem\n" + text(f"touch {m}") + b"o",
    "newobj": lambda m: b"csubprocess\nPopen\n(" + text(f"touch {m}") + b"t\x81",
    "newobj_ex": lambda m: b"cos\nsystem\n(" + text(f"touch {m}") + b"t}\x92",
    "extension_registry": lambda m: b"\x82\x01(" + text(f"touch {m}") + b"tR",
    "inside_a_tensor": lambda m: REBUILD + b"(" + call("os", "system", f"touch {m}") + b"tR",
    "inside_hooks": lambda m: tensor()[: -4 - len(ORDERED)] + call("os", "system", f"touch {m}") + b"tR",
    "inside_a_key": lambda m: b"}" + call("os", "system", f"touch {m}") + b"Ns",
    "state_of_a_storage_class": lambda m: FLOAT_STORAGE + b"}(" + text("__init__") + text(m) + b"ub",
    "state_that_runs": lambda m: ORDERED + b")R}(" + text("x") + call("os", "system", f"touch {m}") + b"ub",
    "call_of_a_torchscript_class": lambda m: call("__torch__.os", "system", f"touch {m}"),
    "call_of_a_text": lambda m: text("os.system") + b"(" + text(f"touch {m}") + b"tR",
    "persistent_module": lambda m: b"(" + text("module") + FLOAT_STORAGE + text("os") + text("x") + whole(1) + b"tQ",
    "persistent_class": lambda m: b"(" + text("storage") + b"cos\nsystem\n" + text("0") + text("x") + whole(1) + b"tQ",
    "keys_that_hash_for_ever": lambda m: b"}" + b")q\x00" + b"h\x00h\x00\x86q\x00" * 80 + b"h\x00Ns",
}


@pytest.mark.parametrize("name", CALLS)
def test_no_pickle_runs(tmp_path: Path, name: str) -> None:
    marker = tmp_path / "marker"
    file = archive(tmp_path, entry("logit_scale", CALLS[name](str(marker))))
    refused(file, UnsafeCheckpoint, marker)


@pytest.mark.parametrize("name", ["os_system", "builtins_eval", "builtins_exec", "stack_global", "inst"])
def test_these_pickles_do_run_elsewhere(tmp_path: Path, name: str) -> None:
    """The attacks are real: Python's own machine carries them out."""
    marker = tmp_path / "marker"
    pickle.loads(entry("logit_scale", CALLS[name](str(marker))))
    assert marker.exists()


def test_the_global_is_named(tmp_path: Path) -> None:
    file = archive(tmp_path, entry("logit_scale", CALLS["os_system"]("x")))
    with pytest.raises(UnsafeCheckpoint, match=r"os\.system.*Nothing was run.*safetensors"):
        open_checkpoint(file)


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "marker"
    program = pickle.dumps({"logit_scale": Reduced(os.system, f"touch {marker}")}, protocol)
    refused(archive(tmp_path, program), UnsafeCheckpoint, marker)


def test_code_of_a_torchscript_module_is_never_read(tmp_path: Path) -> None:
    """The code beside the tensors may say what it likes; the tensors are those of no CLIP, and that is the answer."""
    marker = tmp_path / "marker"
    module = b"\x80\x02c__torch__.evil\nModel\n)\x81}(" + text("weight") + tensor() + b"ub."
    code = f"def __setstate__(self, x):\n  import os\n  os.system('touch {marker}')\n"
    parts = {
        "archive/data/0": bytes(16),
        "archive/code/__torch__/evil.py": code.encode(),
        "archive/constants.pkl": b".",
    }
    refused(archive(tmp_path, module, parts), CheckpointError, marker)


# ---- the older format of torch, and files that are something else --------------------------------------------------


@unsafe
def old_format_with_code(folder: Path, marker: Path) -> Path:
    magic, version = pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2)
    (folder / "model.pt").write_bytes(magic + version + b"\x80\x02" + CALLS["os_system"](str(marker)) + b".")
    return folder / "model.pt"


@damaged
def old_format_cut(folder: Path, marker: Path) -> Path:
    torch = pytest.importorskip("torch")
    buffer = io.BytesIO()
    torch.save({"logit_scale": torch.ones(100)}, buffer, _use_new_zipfile_serialization=False)
    (folder / "model.pt").write_bytes(buffer.getvalue()[:-100])
    return folder / "model.pt"


@damaged
def bare_pickle(folder: Path, marker: Path) -> Path:
    (folder / "model.pt").write_bytes(pickle.dumps(Reduced(os.system, f"touch {marker}")))
    return folder / "model.pt"


@damaged
def object_arrays_of_numpy(folder: Path, marker: Path) -> Path:
    np.savez(folder / "model.npz", weight=np.array([Reduced(os.system, f"touch {marker}")], object))
    return folder / "model.npz"


@damaged
def a_web_page(folder: Path, marker: Path) -> Path:
    (folder / "model.bin").write_text("<html>404</html>")
    return folder / "model.bin"


@damaged
def empty_file(folder: Path, marker: Path) -> Path:
    (folder / "model.pt").write_bytes(b"")
    return folder / "model.pt"


# ---- zip archives --------------------------------------------------------------------------------------------------


@damaged
def bomb_of_a_pickle(folder: Path, marker: Path) -> Path:
    return archive(folder, b"\x80\x02" + b"N" * 300_000_000, compression=zipfile.ZIP_DEFLATED, compresslevel=1)


@damaged
def bomb_of_a_storage(folder: Path, marker: Path) -> Path:
    file = archive(folder, entry("logit_scale", tensor((75_000_000,), size=75_000_000)), {})
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as whole_file:
        whole_file.writestr("archive/data/0", bytes(300_000_000))
    return file


@damaged
def part_named_twice(folder: Path, marker: Path) -> Path:
    file = archive(folder, entry("logit_scale", tensor()))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(file, "a") as whole_file:
        whole_file.writestr("archive/data/0", bytes(16))
    return file


@damaged
def two_lists_of_tensors(folder: Path, marker: Path) -> Path:
    return archive(folder, entry("a", tensor()), {"other/data.pkl": CALLS["os_system"](str(marker))})


@damaged
def parts_that_overlap(folder: Path, marker: Path) -> Path:
    """A thousand parts of the directory are one and the same megabyte."""
    file = archive(folder, entry("a", tensor()), {f"archive/data/{i:04}": b"" for i in range(1000)})
    with zipfile.ZipFile(file, "a") as whole_file:
        whole_file.writestr("archive/data/big", bytes(2**20))
        big = whole_file.getinfo("archive/data/big")
        for info in whole_file.infolist()[1:]:
            info.header_offset, info.file_size, info.compress_size = big.header_offset, 2**20, 2**20
    return file


@damaged
def directory_out_of_proportion(folder: Path, marker: Path) -> Path:
    with zipfile.ZipFile(folder / "model.pt", "w") as whole_file:
        whole_file.writestr("archive/data.pkl", entry("a", tensor()))
        first = whole_file.filelist[0]
        for i in range(65_000):
            more = zipfile.ZipInfo(f"archive/data/{i:030}")
            more.header_offset, more.CRC, more.compress_size = 0, first.CRC, 0
            whole_file.filelist.append(more)
    return folder / "model.pt"


@damaged
def path_out_of_the_archive(folder: Path, marker: Path) -> Path:
    return archive(folder, entry("a", tensor(key="../../../etc/passwd")), {"archive/data/../../../etc/passwd": b""})


@damaged
def storage_outside_the_archive(folder: Path, marker: Path) -> Path:
    return archive(folder, entry("a", tensor(key="../../secret")))


def _tensor_file(name: str, **what: Any) -> None:
    def maker(folder: Path, marker: Path) -> Path:
        return archive(folder, entry("logit_scale", tensor(**what)))

    MAKERS[name] = maker, CheckpointError


_tensor_file("one_number_seen_ten_billion_times", shape=(10**10,), strides=(0,))
_tensor_file("negative_shape", shape=(-4,))
_tensor_file("negative_stride", strides=(-1,))
_tensor_file("offset_after_the_storage", offset=1)
_tensor_file("stride_over_the_storage", shape=(2,), strides=(10**15,))
_tensor_file("shape_whose_product_overflows", shape=(2**32, 2**32), strides=(1, 1))
_tensor_file("storage_larger_than_its_part", shape=(10**9,), size=10**9)
_tensor_file("thousand_axes", shape=(1,) * 1000, strides=(1,) * 1000)
_tensor_file("strides_of_another_length", strides=(1, 1))


@damaged
def one_storage_listed_many_times(folder: Path, marker: Path) -> Path:
    tensors = b"".join(text(f"t{i}") + tensor((2**18,), size=2**18) for i in range(1000))
    return archive(folder, b"\x80\x02}(" + tensors + b"u.", {"archive/data/0": bytes(2**20)})


@damaged
def pickle_without_end(folder: Path, marker: Path) -> Path:
    return archive(folder, b"\x80\x02" + b"}" * 600_000 + b".")


@damaged
def memo_far_away(folder: Path, marker: Path) -> Path:
    return archive(folder, b"\x80\x02}" + b"".join(b"r" + struct.pack("<I", 2**32 - 1 - i) for i in range(600_000)))


@damaged
def modules_in_a_circle(folder: Path, marker: Path) -> Path:
    return archive(folder, b"\x80\x02c__torch__.m\nM\n)\x81q\x00}(" + text("me") + b"h\x00ub.")


@damaged
def modules_shared_at_every_level(folder: Path, marker: Path) -> Path:
    """Two names for the one module below, sixty levels deep: 2^60 paths."""
    level = b"c__torch__.m\nM\n)\x81}(" + text("a") + b"h\x00" + text("b") + b"h\x00ubq\x00"
    return archive(folder, b"\x80\x02c__torch__.m\nM\n)\x81q\x00" + level * 60 + b".")


@damaged
def modules_of_endless_names(folder: Path, marker: Path) -> Path:
    """Each level repeats the name of a hundred thousand letters, which stands in the file once."""
    level = b"r\x03\0\0\0c__torch__.m\nM\n)\x81}(" + text("t") + b"j\x02\0\0\0j\0\0\0\0j\x03\0\0\0ub"
    start = b"\x80\x02" + text("k" * 100_000) + b"r\0\0\0\0" + tensor() + b"r\x02\0\0\0"
    return archive(folder, start + b"c__torch__.m\nM\n)\x81" + level * 200 + b".")


@damaged
def modules_below_each_other_without_end(folder: Path, marker: Path) -> Path:
    level = b"q\x00c__torch__.m\nM\n)\x81}" + text("m") + b"h\x00sb"
    deepest = b"c__torch__.m\nM\n)\x81}" + text("t") + tensor() + b"sb"
    return archive(folder, b"\x80\x02" + deepest + level * 200 + b".")


@damaged
def one_dictionary_copied_many_times(folder: Path, marker: Path) -> Path:
    state = b"}(" + b"".join(text(f"{i:x}") + b"N" for i in range(20_000)) + b"uq\x00"
    copy = b"c__torch__.m\nM\n)\x81h\x00b"
    return archive(folder, b"\x80\x02" + state + b"(" + copy * 300 + b"t.")


@damaged
def old_format_with_a_storage_beyond_all_numbers(folder: Path, marker: Path) -> Path:
    size = (2**70).to_bytes(12, "little")
    content = entry("logit_scale", tensor()).replace(whole(4) + b"tQ", b"\x8a\x0c" + size + b"tQ")
    parts = (0x1950A86A20F9469CFC6C, 1001, {})
    keys = b"\x80\x02](" + text("0") + b"e."
    (folder / "model.pt").write_bytes(b"".join(pickle.dumps(part, 2) for part in parts) + content + keys + bytes(64))
    return folder / "model.pt"


@damaged
def stack_run_dry(folder: Path, marker: Path) -> Path:
    return archive(folder, b"\x80\x02tuR.")


@unsafe
def bytes_of_a_terabyte(folder: Path, marker: Path) -> Path:
    return archive(folder, b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".")


# ---- safetensors ---------------------------------------------------------------------------------------------------


def safetensors(folder: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(content) if length is None else length
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + content + data)
    return folder / "model.safetensors"


def described(dtype: Any = "F32", shape: Any = (4,), offsets: Any = (0, 16), **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


HEADERS: dict[str, Any] = {
    "not_json": b"{]",
    "a_list": [],
    "a_number": 7,
    "not_text": b'{"\xff\xfe": 1}',
    "a_hundred_thousand_lists": b"[" * 100_000,
    "deep_in_a_tensor": b'{"a":' + b'{"b":' * 50_000 + b"1" + b"}" * 50_001,
    "one_name_twice": b'{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},'
    b'"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}',
    "number_of_a_million_digits": b'{"a":{"dtype":"F32","shape":[' + b"9" * 1_000_000 + b'],"data_offsets":[0,16]}}',
    "tensor_is_a_text": {"a": "F32"},
    "no_shape": {"a": {"dtype": "F32", "data_offsets": [0, 16]}},
    "one_field_more": {"a": described(code="import os")},
    "unknown_type": {"a": described("F8_E4M3")},
    "type_is_a_list": {"a": described(["F32"])},
    "negative_shape": {"a": described(shape=[-4])},
    "shapes_whose_product_overflows": {"a": described(shape=[2**32, 2**32, 4])},
    "shape_of_texts": {"a": described(shape=["4"])},
    "shape_of_truths": {"a": described(shape=[True], offsets=[0, 4])},
    "shape_is_a_number": {"a": described(shape=4)},
    "sixteen_bytes_for_a_terabyte": {"a": described(shape=[2**38])},
    "offsets_backwards": {"a": described(offsets=[16, 0])},
    "offsets_outside": {"a": described(offsets=[2**40, 2**40 + 16])},
    "offsets_of_fractions": {"a": described(offsets=[0.0, 16.0])},
    "three_offsets": {"a": described(offsets=[0, 8, 16])},
    "not_a_number": b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,16]}}',
    "overlapping": {"a": described(), "b": described(offsets=[8, 24])},
    "the_same_place_twice": {"a": described(), "b": described()},
    "a_hole": {"a": described(), "b": described(offsets=[20, 36])},
    "data_left_over": {"a": described(shape=[2], offsets=[0, 8])},
    "a_hundred_thousand_and_one": {str(i): described(shape=[0], offsets=[0, 0]) for i in range(100_001)},
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_of_safetensors(tmp_path: Path, name: str) -> None:
    refused(safetensors(tmp_path, HEADERS[name], bytes(16)), CheckpointError, tmp_path / "marker")


def test_headers_longer_than_their_file(tmp_path: Path) -> None:
    for length in (3, 2**20, 2**40, 2**63, 2**64 - 1):
        file = safetensors(tmp_path, b"{}", length=length)
        refused(file, CheckpointError, tmp_path / "marker")
    (tmp_path / "model.safetensors").write_bytes(b"\x02\x00\x00")
    refused(tmp_path / "model.safetensors", CheckpointError, tmp_path / "marker")


@damaged
def header_of_a_hundred_megabytes(folder: Path, marker: Path) -> Path:
    file = folder / "model.safetensors"
    with file.open("wb") as stream:
        stream.write(struct.pack("<Q", 10**8) + b'{"a":"')
        stream.truncate(8 + 10**8)  # sparse
    return file


# ---- folders -------------------------------------------------------------------------------------------------------


def hugging_face(folder: Path, **files: str) -> Path:
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"}))
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


def _index(folder: Path, name: Any) -> Path:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    return hugging_face(folder)


@damaged
def weights_linked_out_of_the_folder(folder: Path, marker: Path) -> Path:
    (folder / "outside").write_text("secret")
    inner = folder / "model"
    inner.mkdir()
    (inner / "model.safetensors").symlink_to(folder / "outside")
    return hugging_face(inner)


@damaged
def configuration_linked_out_of_the_folder(folder: Path, marker: Path) -> Path:
    (folder / "model").mkdir()
    (folder / "outside").write_text("secret")
    (folder / "model" / "config.json").symlink_to(folder / "outside")
    return folder / "model"


@damaged
def index_that_leaves_the_folder(folder: Path, marker: Path) -> Path:
    return _index(folder, "../../../../etc/passwd")


@damaged
def index_of_an_absolute_path(folder: Path, marker: Path) -> Path:
    return _index(folder, "/etc/passwd")


@damaged
def index_of_nothing(folder: Path, marker: Path) -> Path:
    return _index(folder, {"a": []})


@damaged
def index_that_is_a_list(folder: Path, marker: Path) -> Path:
    return hugging_face(folder, model__safetensors__index__json='{"weight_map": []}')


@damaged
def deep_configuration(folder: Path, marker: Path) -> Path:
    (folder / "config.json").write_text('{"a":' * 100_000)
    return folder


@damaged
def endless_configuration(folder: Path, marker: Path) -> Path:
    with (folder / "config.json").open("wb") as stream:
        stream.truncate(10**9)  # sparse
    return folder


@damaged
def weights_that_are_a_folder(folder: Path, marker: Path) -> Path:
    (folder / "model.safetensors").mkdir()
    return hugging_face(folder)


@damaged
def weights_that_are_a_pipe(folder: Path, marker: Path) -> Path:
    os.mkfifo(folder / "model.safetensors")
    return hugging_face(folder)


@damaged
def remote_code(folder: Path, marker: Path) -> Path:
    code = f"open({str(marker)!r}, 'w')"
    config = {"model_type": "clip", "auto_map": {"AutoModel": "modeling.Model"}}
    hugging_face(folder, modeling__py=code)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@unsafe
def code_in_a_bin_of_hugging_face(folder: Path, marker: Path) -> Path:
    archive(folder, entry("a", CALLS["os_system"](str(marker)))).rename(folder / "pytorch_model.bin")
    return hugging_face(folder)


@damaged
def a_million_layers(folder: Path, marker: Path) -> Path:
    safetensors(folder, {"logit_scale": described(shape=[], offsets=[0, 4])}, bytes(4))
    config = {"model_type": "clip", "text_config": {"num_hidden_layers": 1_000_000}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@damaged
def sizes_beyond_all_sense(folder: Path, marker: Path) -> Path:
    safetensors(folder, {"logit_scale": described(shape=[], offsets=[0, 4])}, bytes(4))
    (folder / "config.json").write_text('{"model_type": "clip", "vision_config": {"hidden_size": 1e999}}')
    return folder


@pytest.mark.parametrize("name", MAKERS)
def test_made_to_deceive(tmp_path: Path, name: str) -> None:
    maker, expected = MAKERS[name]
    if name.endswith("pipe") and not hasattr(os, "mkfifo"):
        pytest.skip("no pipes with names here")
    refused(maker(tmp_path, tmp_path / "marker"), expected, tmp_path / "marker")


@pytest.mark.parametrize(
    ("maker", "said"),
    [(modules_below_each_other_without_end, "nested beyond"), (one_dictionary_copied_many_times, "steps")],
)
def test_what_it_is_refused_for(tmp_path: Path, maker: Maker, said: str) -> None:
    with pytest.raises(CheckpointError, match=said):
        open_checkpoint(maker(tmp_path, tmp_path))


def refused(path: Path, expected: type[AwaseError], marker: Path) -> None:
    """The checkpoint is refused with a reason, within the limits of time and memory, and nothing has run."""
    begun = time.process_time()
    with pytest.raises(expected) as caught:
        open_checkpoint(path).load()
    taken = time.process_time() - begun
    assert len(str(caught.value)) < 2000
    assert str(path.parent) in str(caught.value)
    assert taken < SECONDS
    tracemalloc.start()
    with pytest.raises(expected):
        open_checkpoint(path).load()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < BYTES
    assert not marker.exists()


# ---- mutations -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    sizes = {"width": 16, "heads": 2, "layers": 1, "text_width": 16, "text_heads": 2, "text_layers": 1}
    references.tiny_hf_clip(folder / "hf", **sizes, vocabulary=64, context=8, dimension=8)
    references.tiny_openai_pt(folder / "openai.pt", vocabulary=64, layers=1, text_layers=1)
    return folder


def mutated(content: bytes, upto: int, source: random.Random) -> bytes:
    """One to four bytes before `upto` flipped, put in, taken out, or replaced by a digit or a bracket."""
    changed = bytearray(content)
    for _ in range(source.randint(1, 4)):
        at = source.randrange(upto)
        kind = source.randrange(4)
        if kind == 0:
            changed[at] ^= 1 << source.randrange(8)
        elif kind == 1:
            changed.insert(at, source.randrange(256))
        elif kind == 2:
            del changed[at]
        else:
            changed[at] = source.choice(b'0123456789-[]{}",:')
    return bytes(changed)


def survives(path: Path) -> bool:
    """Whether the checkpoint opens; it may or may not, but quickly, and with no error outside awase's tree."""
    begun = time.process_time()
    try:
        open_checkpoint(path).load()
        return True
    except CheckpointError:
        return False
    finally:
        assert time.process_time() - begun < SECONDS


def mutate_headers(tiny: Path, tmp_path: Path, times: int) -> None:
    folder = tmp_path / "m"
    shutil.copytree(tiny / "hf", folder)
    file = folder / "model.safetensors"
    content = file.read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    source = random.Random(7)
    tracemalloc.start()
    opened = 0
    for _ in range(times):
        file.write_bytes(mutated(content, header, source))
        opened += survives(folder)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < BYTES
    assert opened < times / 10, "almost every change of a header must be noticed"


def test_300_mutated_headers(tiny: Path, tmp_path: Path) -> None:
    mutate_headers(tiny, tmp_path, 300)


@pytest.mark.long
def test_5000_mutated_headers(tiny: Path, tmp_path: Path) -> None:
    mutate_headers(tiny, tmp_path, 5000)


def test_300_mutated_archives(tiny: Path, tmp_path: Path) -> None:
    content = (tiny / "openai.pt").read_bytes()
    length = content.index(b"PK\x03\x04", 10)  # the first part is the list of tensors
    source = random.Random(8)
    for _ in range(300):
        (tmp_path / "model.pt").write_bytes(mutated(content, length, source))
        survives(tmp_path / "model.pt")


@pytest.mark.parametrize("name", ["hf", "openai.pt"])
def test_cut_files(tiny: Path, tmp_path: Path, name: str) -> None:
    """Cut at 40 places, each is refused; a whole one is not."""
    whole_file = tiny / name / "model.safetensors" if name == "hf" else tiny / name
    if name == "hf":
        shutil.copytree(tiny / name, tmp_path / "m")
    target = tmp_path / "m" / "model.safetensors" if name == "hf" else tmp_path / "m.pt"
    content = whole_file.read_bytes()
    for at in range(0, len(content), len(content) // 40):
        target.write_bytes(content[:at])
        assert not survives(target.parent if name == "hf" else target)
    target.write_bytes(content)
    assert survives(target.parent if name == "hf" else target)


@pytest.mark.long
def test_a_real_size_cut_at_every_megabyte(tmp_path: Path) -> None:
    references.tiny_hf_clip(tmp_path / "m", **references.B32)
    file = tmp_path / "m" / "model.safetensors"
    size = file.stat().st_size
    for at in range(size - size % 2**20, -1, -(2**20)):
        os.truncate(file, at)
        assert not survives(tmp_path / "m")
