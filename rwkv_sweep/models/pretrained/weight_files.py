"""The files a checkpoint is made of: finding, opening and hashing them, with errors that name the file.

Tensors stay mapped from the file where its format allows
it: what is not used is never read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from rwkv_sweep.errors import UserError, shown
from rwkv_sweep.models.pretrained.pickles import GGUF_INSTEAD, read_pickle, short
from rwkv_sweep.utils.console import log_line_once
from rwkv_sweep.utils.files import unchanged_file_sha256

CONFIG_FILE = "config.json"
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
SINGLE_FILES = (".pth", ".pt", ".safetensors")
"""Endings of files that hold all tensors of a network."""


def no_checkpoint(path: Path) -> UserError:
    """What is wrong with a path where no checkpoint is, and what to give in its place."""
    if not path.is_dir():
        return UserError(f"{path} does not exist: expected a folder with {CONFIG_FILE} and weights, or a .pth file")
    names = sorted(file.name for file in path.iterdir() if file.suffix in SINGLE_FILES and "-of-" not in file.name)
    if names:
        more = f" (or another of the {len(names)} there)" if len(names) > 1 else ""
        return UserError(f"{path} has no {CONFIG_FILE}: model.path={path / names[0]} reads that file alone{more}")
    if any(path.glob("*.gguf")):
        return UserError(f"{path} holds a GGUF file of llama.cpp, {GGUF_INSTEAD}")
    return UserError(f"{path} has no {CONFIG_FILE}: expected a folder with {CONFIG_FILE} and weights, or a .pth file")


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights of a Hugging Face folder: safetensors before .bin.

    Raises:
        UserError: there are none, or shards that the index names are missing.
    """
    return _weights(folder)[0]


def read_folder(folder: Path) -> dict[str, Tensor]:
    """All tensors of a Hugging Face folder, by name, on the CPU; each from the shard in which the index places it.

    Raises:
        UserError: see `weight_files` and `read_tensors`; or the index and a shard contradict each other.
    """
    files, shard_of = _weights(folder)
    if shard_of is None:
        return read_tensors(files[0])
    tensors: dict[str, Tensor] = {}
    for file in files:
        in_shard = read_tensors(file)
        _check_shard(file, shard_of, in_shard)
        tensors.update((name, tensor) for name, tensor in in_shard.items() if shard_of[name] == file.name)
        if twice := [name for name in in_shard if shard_of[name] != file.name]:
            log_line_once(f"{file} holds {few(twice)}, which the index places in another shard: read from there")
    return tensors


def check_shards(folder: Path) -> None:
    """Refuse weights of a Hugging Face folder that `transformers` should not open.

    Of a tensor in two shards it takes the last, whatever the index says.

    Raises:
        UserError: see `weight_files` and `read_tensors` (the numbers of safetensors are not looked at); the index and a
            shard contradict each other, or two shards hold a tensor of one name.
    """
    files, shard_of = _weights(folder)
    for file in files:
        names = _names(file)
        if shard_of is None:
            continue
        _check_shard(file, shard_of, names)
        if twice := [name for name in names if shard_of[name] != file.name]:
            raise UserError(
                f"{file} holds {few(twice)}, which the index places in another shard: copy all files of the model anew"
            )


def _check_shard(file: Path, shard_of: Mapping[str, str], names: Iterable[str]) -> None:
    """Raises UserError where a shard lacks a tensor that the index places in it, or has one that the index lacks."""
    in_shard = set(names)
    lacking = sorted(name for name, shard in shard_of.items() if shard == file.name and name not in in_shard)
    if lacking:
        raise UserError(f"{file} does not hold {few(lacking)}, which the index places there: copy all files anew")
    if unnamed := sorted(in_shard - set(shard_of)):
        raise UserError(f"{file} holds {few(unnamed)}, which the index does not name: copy all files anew")


def _index(folder: Path) -> list[Path]:
    """The index, which decides what is read of the shards; none where the weights are one file."""
    first = next((name for name in WEIGHT_FILES if (folder / name).is_file()), "")
    return [folder / first] if first.endswith(".index.json") else []


def _weights(folder: Path) -> tuple[list[Path], dict[str, str] | None]:
    """The weight files, and the name of each tensor's where an index says it."""
    for name in WEIGHT_FILES:
        if not (folder / name).is_file():
            continue
        if not name.endswith(".index.json"):
            return [folder / name], None
        shard_of = _weight_map(folder / name)
        shards = sorted(set(shard_of.values()))
        missing = [shard for shard in shards if not (folder / shard).is_file()]
        if missing:
            raise UserError(f"{folder / name} names {few(missing)} that are not in the folder: copy all shards there")
        return [folder / shard for shard in shards], shard_of
    raise UserError(f"{folder} holds no weights: expected one of {', '.join(WEIGHT_FILES)}")


def _weight_map(index: Path) -> dict[str, str]:
    """Of each tensor the file in which an index places it; files lie beside the index and nowhere else.

    Raises:
        UserError: it names none, or something that is not a plain file name.
    """
    shard_of = read_json(index).get("weight_map")
    if not isinstance(shard_of, dict) or not shard_of:
        raise UserError(f"{index} has no weight_map: expected the name of a file for each tensor")
    for shard in shard_of.values():
        if not isinstance(shard, str) or shard in ("", ".", "..") or Path(shard).name != shard or "\\" in shard:
            raise UserError(f"{index} names the file {shown(shard)}: valid is the name of a file in the same folder")
    return shard_of


def read_tensors(file: Path) -> dict[str, Tensor]:
    """All tensors of one safetensors or PyTorch file, by name, on the CPU.

    Raises:
        UserError: the file is damaged, holds code, or holds more than tensors.
    """
    if not file.is_file():
        raise no_checkpoint(file)
    return _safetensors(file) if file.suffix == ".safetensors" else read_pickle(file)


def tensor_names(folder: Path) -> list[str]:
    """Names of all tensors of a Hugging Face folder, none of which is read; empty where it holds no weights.

    Raises:
        UserError: a file is missing or damaged.
    """
    if not any((folder / name).is_file() for name in WEIGHT_FILES):
        return []
    return [name for file in weight_files(folder) for name in _names(file)]


def _names(file: Path) -> list[str]:
    """Names of the tensors of one file, which are not read."""
    if file.suffix != ".safetensors":
        return list(read_pickle(file))
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as opened:
            return list(opened.keys())
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{file} is damaged or not a safetensors file: {error}") from error


def fingerprint(path: Path) -> str:
    """16 hex digits of the SHA-256 over the bytes of config, index and weights, streamed; kept for unchanged files.

    Raises:
        UserError: a file is missing.
    """
    if not path.exists():
        raise no_checkpoint(path)
    files = model_files(path)
    digest = hashlib.sha256()
    for file in files:
        digest.update(bytes.fromhex(unchanged_file_sha256(file)))
    return digest.hexdigest()[:16]


def model_files(path: Path) -> list[Path]:
    """Config, index and weights of a Hugging Face folder; or the one file that `path` is.

    Raises:
        UserError: see `weight_files`.
    """
    return [path / CONFIG_FILE, *_index(path), *weight_files(path)] if path.is_dir() else [path]


def read_json(file: Path) -> dict[str, Any]:
    """The JSON object in a file; raises UserError if there is none."""
    if not file.is_file():
        raise no_checkpoint(file.parent if file.name == CONFIG_FILE and file.parent.is_dir() else file)
    try:
        content = json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=_once_each)
    except RecursionError as error:
        raise UserError(f"{file} is nested too deeply: expected a JSON object of names and values") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{file} is not valid JSON: {error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not valid JSON: byte {error.start} is not UTF-8") from error
    except _TwiceError as error:
        raise UserError(f"{file} has the key {error} twice, with different values: valid is once") from error
    except ValueError as error:  # thousands of digits
        raise UserError(f"{file} holds a number of too many digits to be read") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} holds a {type(content).__name__}: expected a JSON object")
    return content


class _TwiceError(ValueError):
    """A key of a JSON object comes twice."""


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values and values[key] != value:
            raise _TwiceError(shown(key))
        values[key] = value
    return values


def few(names: list[str]) -> str:
    """The first names of a list, and how many there are."""
    first = ", ".join(short(name) for name in names[:3])
    return first if len(names) <= 3 else f"{first} and {len(names) - 3} more ({len(names)} in all)"


def _safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{file} is damaged or not a safetensors file: {error}") from error
