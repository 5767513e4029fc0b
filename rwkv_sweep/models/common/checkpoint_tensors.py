"""What readers of checkpoints share: files to tensors under a network's names, each checked against what it expects.

The layouts of RWKV-4 and RWKV-5 are here, since they differ in a few names only:

| part | author's .pth | Hugging Face folder |
|---|---|---|
| before the names | | `rwkv.` |
| table | `emb` | `embeddings` |
| halves of a block | `att`, `ffn` | `attention`, `feed_forward` |
| norm of the embedding | `ln0` | `pre_ln` |
| shares of the current token | `time_mix_k`, `_v`, `_r`, `_g` | `time_mix_key`, `_value`, `_receptance`, `_gate` |
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rwkv_sweep.errors import UserError, shown
from rwkv_sweep.models.pretrained.other_networks import unwrapped
from rwkv_sweep.models.pretrained.pickles import short
from rwkv_sweep.models.pretrained.weight_files import CONFIG_FILE, few, read_folder, read_json, read_tensors
from rwkv_sweep.utils.console import log_line_once

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
HEAD = "head.weight"

_BASE = "rwkv."
_AUTHOR_NAMES = ((".ln0.", ".pre_ln."), (".att.", ".attention."), (".ffn.", ".feed_forward."))
_TIME_MIX = re.compile(r"\.time_mix_(key|value|receptance|gate|[kvrg])$")


@dataclass(frozen=True)
class Checkpoint:
    """A file or folder as it was read.

    Attributes:
        path: of the .pth file or the folder.
        weights: tensors under the names of the network, in the shapes and dtypes of the file.
        given: for each of these names the one in the file.
        settings: config.json; empty for a .pth file.
    """

    path: Path
    weights: dict[str, Tensor]
    given: dict[str, str]
    settings: Mapping[str, Any]

    @property
    def config_file(self) -> Path:
        """Where `settings` stand."""
        return self.path / CONFIG_FILE


def read_checkpoint(path: Path) -> Checkpoint:
    """All tensors of an RWKV-4 or RWKV-5 at `path`, mapped where the format allows it.

    Raises:
        UserError: nothing is there, a file is damaged or holds code, or it holds a tensor twice.
    """
    if path.is_dir():
        settings = read_json(path / CONFIG_FILE)
        return named(path, read_folder(path), settings)
    return named(path, read_tensors(path), {})


def named(path: Path, tensors: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Checkpoint:
    """Tensors of either layout under the network's names; a name of neither stays as it is.

    Shares of the current token become shares of the token before it, `time_maa_*`, as RWKV-6 and 7 store them.

    Raises:
        UserError: two tensors of the file have the same place in the network.
    """
    weights: dict[str, Tensor] = {}
    given: dict[str, str] = {}
    try:
        bare, removed = unwrapped(tensors)
    except ValueError as error:
        raise UserError(f"{path} holds a tensor twice: {error}") from error
    if removed:
        log_line_once(f"{path}: the names of its tensors are read without {' and '.join(removed)}")
    for original, tensor in bare.items():
        name = _network_name(original)
        if name in weights:
            raise UserError(f"{path} holds a tensor twice: {given[name]} and {original} are both {author_name(name)}")
        share = _TIME_MIX.search(original) is not None and tensor.dtype in DTYPES
        weights[name], given[name] = 1 - tensor.float() if share else tensor, original
    return Checkpoint(path, weights, given, settings)


def _network_name(original: str) -> str:
    name = original.removeprefix(_BASE)
    if name.startswith("emb."):
        name = f"embeddings.{name[len('emb.') :]}"
    for author, ours in _AUTHOR_NAMES:
        name = name.replace(author, ours, 1)
    return _TIME_MIX.sub(lambda match: f".time_maa_{match[1][0]}", name)


def author_name(name: str) -> str:
    """The name that the author's files give to a tensor of the network."""
    if name.startswith("embeddings."):
        return name.replace("embeddings.", "emb.", 1)
    for author, ours in _AUTHOR_NAMES:
        name = name.replace(ours, author, 1)
    return name.replace(".time_maa_", ".time_mix_")


def shapes_of(checkpoint: Checkpoint, network: str, matrices: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors.

    Args:
        network: what the file is taken for, such as `RWKV-5`.
        matrices: names from whose shapes the sizes come.

    Raises:
        UserError: one of the matrices is missing, no matrix, or empty.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in checkpoint.weights.items()}
    needed = list(matrices)
    if lacking := [author_name(name) for name in needed if len(shapes.get(name, ())) != 2]:
        raise UserError(f"{checkpoint.path} is not an {network}: it has no matrix {few(lacking)}")
    if empty := next((name for name in needed if 0 in shapes[name]), None):
        raise UserError(
            f"{checkpoint.path} is not an {network}: {author_name(empty)} is empty, of shape {list(shapes[empty])}"
        )
    return shapes


def count_blocks(path: Path, names: Iterable[str]) -> int:
    """How many blocks the names are of: their numbers, as text, since they may have thousands of digits.

    Raises:
        UserError: they do not run from 0 on without a gap.
    """
    numbers = {match[1] for name in names if (match := re.match(r"blocks\.(\d+)\.", name))}
    absent = next((str(number) for number in range(len(numbers)) if str(number) not in numbers), None)
    if absent is not None:
        last = max(numbers, key=lambda number: (len(number), number))
        raise UserError(f"{path} has tensors of blocks.{short(last)}, but none of blocks.{absent}")
    return len(numbers)


def check_tensors(
    checkpoint: Checkpoint, network: str, expected: Mapping[str, tuple[int, ...]], head: tuple[int, int]
) -> dict[str, Tensor]:
    """The tensors in the shapes of the model: vectors may come as [D] or [1, 1, D].

    Args:
        network: such as `RWKV-5 of 12 blocks and hidden size 64`.
        expected: shapes of the model's tensors.
        head: shape of the output head, which is checked and left out.

    Raises:
        UserError: names, shapes or dtypes are not those of the model.
    """
    weights, given = checkpoint.weights, checkpoint.given
    if HEAD not in weights:
        log_line_once(f"{checkpoint.path} has no {HEAD}, which embeddings do not need")
    shapes = {**expected, HEAD: head}
    wrong = [
        f"{given[name]} {list(tensor.shape)} (expected {list(shapes[name])})"
        for name, tensor in weights.items()
        if name in shapes and core(tuple(tensor.shape)) != core(shapes[name])
    ]
    parts = (
        ("missing", [author_name(name) for name in expected if name not in weights]),
        ("unexpected", [given[name] for name in weights if name not in shapes]),
        ("of another shape", wrong),
        (
            "of another dtype",
            [f"{given[name]} {tensor.dtype}" for name, tensor in weights.items() if tensor.dtype not in DTYPES],
        ),
    )
    if any(names for _, names in parts):
        faults = "; ".join(f"{what}: {few(names)}" for what, names in parts if names)
        raise UserError(f"{checkpoint.path} does not hold an {network}: {faults}")
    return {name: weights[name].reshape(shape) for name, shape in expected.items()}


def check_finite(path: Path, weights: Mapping[str, Tensor], given: Mapping[str, str]) -> None:
    """Raises UserError where a tensor holds NaN or infinity.

    given: names of the file, where they are known.
    """
    for name, tensor in weights.items():
        # The extremes carry a NaN with them, and need no mask as large as the tensor.
        if not all(math.isfinite(extreme) for extreme in torch.aminmax(tensor)):
            in_file = given.get(name, author_name(name))
            raise UserError(
                f"{path}: {in_file} holds NaN or infinity, so the weights are damaged: fetch the file again"
            )


def announced(file: Path, settings: Mapping[str, Any], defaults: Mapping[str, int | None]) -> dict[str, int]:
    """Sizes as config.json gives them, for a folder whose weights are not there.

    Args:
        defaults: of each key what holds where config.json leaves it out; None where it must be there.

    Raises:
        UserError: a key is missing, or no size that a network can have.
    """
    sizes: dict[str, int] = {}
    for key, default in defaults.items():
        size = settings.get(key) if settings.get(key) is not None else default
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise UserError(f"{file} has {key}={plain(size)}: valid is a whole number from 1 on")
        sizes[key] = size
    return sizes


def compare_sizes(file: Path, sizes: Mapping[str, int], settings: Mapping[str, Any]) -> None:
    """Raises UserError where config.json names a size that the tensors do not have."""
    for key, size in sizes.items():
        if settings.get(key) not in (None, size):
            raise UserError(f"{file} has {key}={plain(settings[key])}, but the tensors beside it have {size}")


def epsilon_of(file: Path, settings: Mapping[str, Any], keys: tuple[str, ...], default: float) -> float:
    """The first of these numbers that config.json has, else the default; UserError where it is none."""
    for key in keys:
        epsilon = settings.get(key)
        if epsilon is None:
            continue
        if not isinstance(epsilon, float) or not 0 < epsilon < 1:
            raise UserError(f"{file} has {key}={plain(epsilon)}: valid is a number between 0 and 1")
        return epsilon
    return default


def core(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without its dimensions of size 1."""
    return tuple(size for size in shape if size != 1)


def plain(value: object) -> str:
    """A value from a file for a message, shortened; text without quotes."""
    return shown(value)[1:-1] if isinstance(value, str) else shown(value)
