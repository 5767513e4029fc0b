"""The files a checkpoint is made of: finding, opening and hashing them, with errors that name the file.

Pickles are read as weights only, so no code in them runs. Tensors stay mapped from the file where its format allows
it: what is not used is never read.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rwkv_sweep.errors import UserError

CONFIG_FILE = "config.json"
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights of a Hugging Face folder: safetensors before .bin.

    Raises:
        UserError: there are none, or shards that the index names are missing.
    """
    for name in WEIGHT_FILES:
        if not (folder / name).is_file():
            continue
        if not name.endswith(".index.json"):
            return [folder / name]
        shards = _shards(folder / name)
        missing = [shard for shard in shards if not (folder / shard).is_file()]
        if missing or not shards:
            raise UserError(f"{folder / name} names {few(missing)} that are not in the folder: copy all shards there")
        return [folder / shard for shard in shards]
    raise UserError(f"{folder} holds no weights: expected one of {', '.join(WEIGHT_FILES)}")


def _shards(index: Path) -> list[str]:
    """The files that an index names; they lie beside it and nowhere else.

    Raises:
        UserError: it names none, or something that is not a plain file name.
    """
    named = read_json(index).get("weight_map")
    shards = list(named.values()) if isinstance(named, dict) else []
    for shard in shards:
        if not isinstance(shard, str) or shard in ("", ".", "..") or Path(shard).name != shard or "\\" in shard:
            raise UserError(f"{index} names the file {shard!r}: valid is the name of a file in the same folder")
    return sorted(set(shards))


def read_tensors(file: Path) -> dict[str, Tensor]:
    """All tensors of one safetensors or PyTorch file, by name, on the CPU.

    Raises:
        UserError: the file is damaged, holds code, or holds more than tensors.
    """
    return _safetensors(file) if file.suffix == ".safetensors" else _pickle(file)


def fingerprint(path: Path) -> str:
    """16 hex digits of the SHA-256 over the bytes of config and weight files, streamed; kept for unchanged files.

    Raises:
        UserError: a file is missing.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist: expected a folder with {CONFIG_FILE} and weights, or a .pth file")
    files = [path / CONFIG_FILE, *weight_files(path)] if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        stat = file.stat()
        digest.update(_file_digest(file, stat.st_size, stat.st_mtime_ns))
    return digest.hexdigest()[:16]


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in a file; raises UserError if there is none."""
    if not file.is_file():
        raise UserError(f"{file} does not exist: expected a folder with {CONFIG_FILE} and weights, or a .pth file")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} holds a {type(content).__name__}: expected a JSON object")
    return content


def few(names: list[str]) -> str:
    """The first names of a list, and how many there are."""
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more ({len(names)} in all)"


@lru_cache(maxsize=64)
def _file_digest(file: Path, size: int, mtime_ns: int) -> bytes:
    """SHA-256 of a file; size and time stand for its content, so that a sweep reads big weights once."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.digest()


def _safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{file} is damaged or not a safetensors file: {error}") from error


@lru_cache(maxsize=64)
def _first_damaged_part(file: Path, size: int, mtime_ns: int) -> str | None:
    """Name of a part of a zip file whose checksum is another; mapped tensors are never checked otherwise."""
    with zipfile.ZipFile(file) as parts:
        return parts.testzip()


def _pickle(file: Path) -> dict[str, Tensor]:
    try:
        zipped, stat = zipfile.is_zipfile(file), file.stat()
        if zipped and (part := _first_damaged_part(file, stat.st_size, stat.st_mtime_ns)) is not None:
            raise ValueError(f"the checksum of its part {part} is another")
        loaded: Any = torch.load(str(file), map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # a damaged pickle can raise nearly anything
        if code := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"{file} holds {code[1]}, which is code, and is not loaded: only files of plain tensors are read"
            ) from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{file} is damaged or not a PyTorch weight file: {reason}") from error
    if not isinstance(loaded, dict) or not all(isinstance(tensor, Tensor) for tensor in loaded.values()):
        raise UserError(
            f"{file} holds {type(loaded).__name__} with more than tensors: expected names and tensors alone"
        )
    return loaded
