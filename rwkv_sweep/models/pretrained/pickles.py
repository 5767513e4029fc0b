"""PyTorch weight files: read as plain tensors only, so that no code in them runs.

Messages are our own: those of `torch.load` advise to switch the protection off.
"""

from __future__ import annotations

import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rwkv_sweep.errors import UserError, shown
from rwkv_sweep.utils.console import log_line_once
from rwkv_sweep.utils.files import file_stamp

NESTED = ("state_dict", "model_state_dict", "model", "module")
"""Keys under which training programs keep the weights, beside an epoch or an optimizer."""

_PLAIN = re.compile(
    r"collections\.OrderedDict|(builtins|__builtin__)\.set|_codecs\.encode|torch(\.storage)?\.\w+Storage"
    r"|torch\.(Size|device|Tensor|(float|bfloat|complex|u?int)\d+\w*|bool|sparse_\w+|strided)"
    r"|torch\._utils\._rebuild_\w+|torch\._tensor\._rebuild_from_type_v2|torch\.nn\.parameter\.Parameter"
    r"|torch\.serialization\._get_layout"
)
"""What plain tensors are made of in a pickle."""
GGUF_INSTEAD = "which is not read: give the .pth or safetensors file that it was made from"
_UNSIGNED = "its parts are incomplete, or it was not written by torch.save"


def read_pickle(file: Path) -> dict[str, Tensor]:
    """All tensors of a file of `torch.save` by name, on the CPU, mapped from the file where its format allows it.

    Raises:
        UserError: the file is damaged, holds code, or holds more than names and dense tensors.
    """
    try:
        zipped = zipfile.is_zipfile(file)
        if zipped and (part := _first_damaged_part(file, file_stamp(file))) is not None:
            raise UserError(f"{file} is damaged: the checksum of its part {part} is another; fetch the file again")
        with warnings.catch_warnings():  # about what is refused below in our words
            warnings.simplefilter("ignore")
            loaded: Any = torch.load(str(file), map_location="cpu", weights_only=True, mmap=zipped)
    except UserError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise UserError(f"{file} {_why_not(file, error)}") from error
    return _dense(file, _unnested(file, loaded))


def code_in(pickle: bytes) -> str | None:
    """The first class or function that a pickle would call and that plain tensors do not need; None for none.

    Reads the opcodes of any protocol without running them; what is cut off or damaged counts up to there.
    """
    for module, name in _globals_in(pickle):
        if not _PLAIN.fullmatch(f"{module}.{name}"):
            return f"{module}.{name}"
    return None


def _globals_in(pickle: bytes) -> Iterator[tuple[str, str]]:
    """Module and name of each global; protocol 4 and later push both as strings, maybe from the memo."""
    strings: list[str] = ["?", "?"]
    memo: dict[int, str] = {}
    try:
        for opcode, argument, _ in pickletools.genops(pickle):
            if opcode.name in ("GLOBAL", "INST"):
                module, _, name = str(argument).partition(" ")
                yield module, name
            elif opcode.name == "STACK_GLOBAL":
                yield strings[-2], strings[-1]
            elif opcode.name == "MEMOIZE":
                memo[len(memo)] = strings[-1]
            elif opcode.name.endswith("PUT"):
                memo[int(str(argument))] = strings[-1]
            elif opcode.name.endswith("GET"):
                strings.append(memo.get(int(str(argument)), "?"))
            elif isinstance(argument, str):
                strings.append(argument)
    except Exception:  # whatever a damaged pickle raises: what came before it was seen
        return


def _why_not(file: Path, error: Exception) -> str:
    """What is wrong with a file that `torch.load` refused, in words that follow its name."""
    try:
        if not zipfile.is_zipfile(file):
            with file.open("rb") as stream:
                content = stream.read(1 << 26)  # numbers come last
            if content.startswith(b"GGUF"):
                return f"is a GGUF file of llama.cpp, {GGUF_INSTEAD}"
            code, script = code_in(_after_header(content)) or code_in(content), False
        else:
            with zipfile.ZipFile(file) as parts:
                names = parts.namelist()
                script = any(name.endswith("/constants.pkl") for name in names)
                pickles = [parts.read(name) for name in names if name.endswith("data.pkl")]
            code = next((called for pickle in pickles if (called := code_in(pickle)) is not None), None)
    except Exception:  # a damaged zip file, too, can raise nearly anything
        code, script = None, False
    if script:
        return "is a TorchScript archive, which is code, and is not loaded: save the model's state_dict with torch.save"
    if code is not None:
        return f"holds {short(code)}, which is code, and is not loaded: only files of plain tensors are read"
    reason = error.strerror if isinstance(error, OSError) and error.strerror else _UNSIGNED
    return f"is damaged or not a PyTorch weight file: {reason}"


def _after_header(content: bytes) -> bytes:
    """The objects of a file in torch's format before zip: magic number, version and system come as pickles before."""
    for _ in range(3):
        try:
            end = next(place for opcode, _, place in pickletools.genops(content) if opcode.name == "STOP")
        except Exception:  # not that format
            return b""
        content = content[(end or 0) + 1 :]
    return content


@lru_cache(maxsize=64)
def _first_damaged_part(file: Path, stamp: object) -> str | None:
    """Name of a part of a zip file whose checksum is another; mapped tensors are never checked otherwise."""
    with zipfile.ZipFile(file) as parts:
        return parts.testzip()


def _unnested(file: Path, loaded: Any) -> Any:
    """The dictionary of weights in what a training program saved, where there is exactly one."""
    if not isinstance(loaded, Mapping):
        return loaded
    inner = {key: loaded[key] for key in NESTED if isinstance(loaded.get(key), Mapping)}
    if not inner or any(isinstance(value, Tensor) for value in loaded.values()):
        return loaded
    if len(inner) > 1:
        raise UserError(f"{file} holds weights under {' and '.join(inner)}: valid is one of them, saved alone")
    (key,) = inner
    log_line_once(f"{file}: the weights are those under its key {key}")
    return inner[key]


def _dense(file: Path, loaded: Any) -> dict[str, Tensor]:
    if not isinstance(loaded, Mapping) or not all(isinstance(tensor, Tensor) for tensor in loaded.values()):
        raise UserError(
            f"{file} holds {type(loaded).__name__} with more than tensors: expected names and tensors alone"
        )
    for name, tensor in loaded.items():
        if not isinstance(name, str):
            raise UserError(f"{file} holds a tensor under the key {shown(name)}: expected a name, such as 'emb.weight'")
        kind = "meta" if tensor.is_meta else str(tensor.layout).removeprefix("torch.")
        kind = "quantized" if tensor.is_quantized else "nested" if tensor.is_nested else kind
        if kind != "strided":
            raise UserError(f"{file}: {short(name)} is a {kind} tensor: expected plain dense ones with their values")
    return {name: tensor.detach() for name, tensor in loaded.items()}


def short(name: str) -> str:
    """A name from a file for a message: as it is, unless it is very long or not printable."""
    return name if len(name) <= 160 and name.isprintable() else shown(name)[1:-1]
