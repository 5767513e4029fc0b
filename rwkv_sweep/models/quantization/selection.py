"""Which linear layers a precision quantizes: `precision.blocks` and `precision.modules` against a model's names."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rwkv_sweep.config.layer_spec import end_blocks
from rwkv_sweep.config.schema import PrecisionConfig
from rwkv_sweep.errors import UserError

HALVES = {"attention": "time_mix", "feed_forward": "channel_mix"}
"""A block's submodules under the names that the checkpoint gives them, and ours."""
KINDS = (
    "time_mix.receptance",
    "time_mix.key",
    "time_mix.value",
    "time_mix.gate",
    "time_mix.output",
    "channel_mix.key",
    "channel_mix.receptance",
    "channel_mix.value",
)
"""Every kind of linear layer of a block."""

_LAYER = re.compile(r"blocks\.(\d+)\.(\w+)\.(\w+)")


def place(name: str) -> tuple[int, str] | None:
    """Block and kind of a linear layer by its module's name; None for what is not one of `KINDS`."""
    match = _LAYER.fullmatch(name)
    if match is None or match[2] not in HALVES:
        return None
    kind = f"{HALVES[match[2]]}.{match[3]}"
    return (int(match[1]), kind) if kind in KINDS else None


def resolve_blocks(spec: object, num_blocks: int) -> frozenset[int]:
    """Numbers of the blocks that `precision.blocks` names.

    Args:
        spec: `all`, `none`, `first6`, `last6`, `first_half`, `last_half`, a number, or a list of these.
        num_blocks: number of blocks of the model.

    Raises:
        UserError: a block that the model does not have, or a word that is none of these.
    """
    return frozenset(block for part in _parts(spec) for block in _resolve_block(part, spec, num_blocks))


def resolve_modules(spec: object) -> frozenset[str]:
    """The kinds of `KINDS` that `precision.modules` names.

    Args:
        spec: `all`, `time_mix`, `channel_mix`, a name (`key`: both halves' keys; `channel_mix.key`), or a list of
            these.

    Raises:
        UserError: a name that is none of these, or an empty list.
    """
    kinds = [kind for part in _parts(spec) for kind in _resolve_kind(part, spec)]
    if not kinds:
        raise UserError(f"precision.modules={_shown(spec)} is empty: {_valid_modules()}")
    return frozenset(kinds)


def check_selection(precision: PrecisionConfig, num_blocks: int, lacking: Collection[str] = ()) -> None:
    """Check `precision.blocks` and `precision.modules` against a model of this many blocks.

    Args:
        lacking: those of `KINDS` that the model does not have.

    Raises:
        UserError: see `resolve_blocks` and `resolve_modules`; or a choice of what to quantize where nothing is.
    """
    resolve_blocks(precision.blocks, num_blocks)
    kinds = resolve_modules(precision.modules)
    if precision.quantization != "none":
        if kinds <= set(lacking):
            raise UserError(
                f"precision.modules={_shown(precision.modules)} names no linear layer of this model: valid are all, "
                f"time_mix, channel_mix, {', '.join(kind for kind in KINDS if kind not in lacking)}"
            )
        return
    for key, value in (("blocks", precision.blocks), ("modules", precision.modules)):
        if value != "all":
            raise UserError(
                f"precision.{key}={_shown(value)} with precision.quantization=none, which quantizes nothing: "
                "valid is all"
            )


def left_alone(name: str, precision: PrecisionConfig, num_blocks: int) -> str | None:
    """Why this linear layer is not to be quantized; None where it is."""
    if precision.quantization == "none":
        return "nothing is quantized in this precision"
    placed = place(name)
    if placed is None:
        return "not a linear layer of a block"
    block, kind = placed
    if block not in resolve_blocks(precision.blocks, num_blocks):
        return f"block not among precision.blocks={_shown(precision.blocks)}"
    if kind not in resolve_modules(precision.modules):
        return f"not among precision.modules={_shown(precision.modules)}"
    return None


def _resolve_block(part: Any, spec: object, num_blocks: int) -> Iterable[int]:
    if isinstance(part, str) and part.isdigit():
        part = int(part)
    if isinstance(part, int) and not isinstance(part, bool) and 0 <= part < num_blocks:
        return [part]
    if part == "none":
        return []
    if part in ("all", "first_half", "last_half"):
        half = num_blocks // 2
        return range(half if part == "last_half" else 0, half if part == "first_half" else num_blocks)
    if (blocks := end_blocks(part, num_blocks)) is not None:
        return blocks
    raise UserError(
        f"precision.blocks={_shown(spec)} is not a choice of this model's blocks: valid are 0 to {num_blocks - 1}, "
        "all, none, firstN, lastN, first_half, last_half, or a list of these such as [0,1,last2]"
    )


def _resolve_kind(part: object, spec: object) -> list[str]:
    kinds = [kind for kind in KINDS if part == "all" or part == kind or part in kind.split(".")]
    if not kinds:
        raise UserError(f"precision.modules={_shown(spec)} is not a choice of modules: {_valid_modules()}")
    return kinds


def _valid_modules() -> str:
    names = dict.fromkeys(kind.split(".")[1] for kind in KINDS)
    return f"valid are all, time_mix, channel_mix, {', '.join(names)}, qualified as channel_mix.key, or a list of these"


def _parts(spec: object) -> Sequence[object]:
    return spec if isinstance(spec, (list, tuple)) else [spec]


def _shown(spec: object) -> str:
    return "[" + ",".join(str(part) for part in spec) + "]" if isinstance(spec, (list, tuple)) else str(spec)
