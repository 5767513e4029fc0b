"""Which layers of a model are asked for: the numbering of DESIGN, the same for every model and backend.

`k` is the raw output of block k (from 0), `L` (the number of blocks), `final` and `-1` the output of the final norm,
`embedding` the input embedding after `ln0`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from rwkv_sweep.errors import UserError

EMBEDDING = -1
"""Index used inside the program for the embedding; `final` is the number of blocks."""

_END = re.compile(r"(first|last)([1-9]\d*)")


def resolve_layers(spec: object, num_blocks: int) -> tuple[int, ...]:
    """Indices of the layers that `spec` names, in the order given.

    Args:
        spec: an int, a word (`final`, `embedding`, `all`, `first4`, `last4`), a range, or a list of ints and words;
            NumPy's integers and arrays too.
        num_blocks: number of blocks L of the model.

    Returns:
        Indices: 0..L-1 for blocks, L for the final norm, `EMBEDDING` for the embedding.

    Raises:
        UserError: a layer that the model does not have, a repeated layer, or an empty list.
    """
    spec = _plain(spec)
    parts: Sequence[object] = spec if isinstance(spec, (list, tuple, range)) else [spec]
    indices = [index for part in parts for index in _resolve_one(part, num_blocks)]
    if not indices:
        raise UserError(f"layer={_shown(spec)} is an empty list: {_valid(num_blocks)}")
    repeated = {index for index in indices if indices.count(index) > 1}
    if repeated:
        names = ", ".join(layer_name(index, num_blocks) for index in sorted(repeated))
        raise UserError(f"layer={_shown(spec)} names layer {names} more than once")
    return tuple(indices)


def end_blocks(word: object, num_blocks: int) -> range | None:
    """The blocks that `firstN` or `lastN` names; None for any other word, and for more blocks than the model has."""
    match = _END.fullmatch(word) if isinstance(word, str) else None
    if match is None or int(match[2]) > num_blocks:
        return None
    count = int(match[2])
    return range(count) if match[1] == "first" else range(num_blocks - count, num_blocks)


def layer_name(index: int, num_blocks: int) -> str:
    """The word for one index: `embedding`, `0`..`L-1`, or `final`."""
    if index == EMBEDDING:
        return "embedding"
    return "final" if index == num_blocks else str(index)


def layers_name(indices: Sequence[int], num_blocks: int) -> str:
    """A short name of a list of layers, for tables: `5`, `final`, `all`, or `1+3+5`."""
    if len(indices) > 1 and list(indices) == list(range(num_blocks)):
        return "all"
    return "+".join(layer_name(index, num_blocks) for index in indices)


def _plain(value: Any) -> object:
    """Python's own numbers and lists in place of NumPy's."""
    return value.tolist() if hasattr(value, "tolist") else value


def _resolve_one(part: object, num_blocks: int) -> list[int]:
    part = _plain(part)
    if isinstance(part, str) and re.fullmatch(r"-?\d+", part):
        part = int(part)
    if isinstance(part, int) and not isinstance(part, bool):
        if part == -1:
            return [num_blocks]
        if 0 <= part <= num_blocks:
            return [part]
    elif part == "final":
        return [num_blocks]
    elif part == "embedding":
        return [EMBEDDING]
    elif part == "all":
        return list(range(num_blocks))
    elif (blocks := end_blocks(part, num_blocks)) is not None:
        return list(blocks)
    raise UserError(f"layer={_shown(part)} is not a layer of this model: {_valid(num_blocks)}")


def _shown(spec: object) -> str:
    if isinstance(spec, (list, tuple, range)):
        return "[" + ",".join(str(part) for part in spec) + "]"
    return str(spec)


def _valid(num_blocks: int) -> str:
    return (
        f"valid are 0 to {num_blocks - 1} (blocks), final (or {num_blocks} or -1), embedding, all, firstN, lastN, "
        "or a list of these such as [1,3,5]"
    )
