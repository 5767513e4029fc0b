"""What config.json says of an RWKV-7: held against the tensors, and all there is to know before there are any."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rwkv_sweep.errors import UserError
from rwkv_sweep.models.common.checkpoint_tensors import compare_sizes, plain
from rwkv_sweep.models.common.shape import too_large
from rwkv_sweep.models.rwkv7.configuration import Rwkv7Config


def check_settings(file: Path, settings: Mapping[str, Any]) -> None:
    """Raises UserError where config.json names a network other than the plain RWKV-7."""
    hidden = settings.get("hidden_size")
    widths = settings.get("value_dim")
    widths = widths if isinstance(widths, list) else [widths]
    refused = {
        "attn": settings.get("attn") and "a hybrid, some of whose blocks have softmax attention",
        "use_deep_embed": settings.get("use_deep_embed") and "an RWKV-7a (DeepEmbed)",
        "hidden_act": settings.get("hidden_act") not in (None, "sqrelu") and "another activation than sqrelu",
        "value_dim": any(width not in (None, hidden) for width in widths) and "values of another width than the stream",
    }
    for key, what in refused.items():
        if what:
            raise UserError(
                f"{file} has {key}={plain(settings[key])}, which is {what}: only the plain RWKV-7 can be read"
            )


def announced_sizes(file: Path, settings: Mapping[str, Any]) -> Rwkv7Config:
    """Sizes as config.json says them."""
    needed: dict[str, Any] = {
        "vocab_size": settings.get("vocab_size"),
        "hidden_size": settings.get("hidden_size"),
        "num_hidden_layers": settings.get("num_hidden_layers"),
        "head_size": settings.get("head_dim") or settings.get("head_size") or 64,
    }
    for key, size in needed.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise UserError(f"{file} has {key}={plain(size)}: valid is a whole number from 1 on")
    names = {
        "intermediate_size": "intermediate_size",
        "decay_rank": "decay_low_rank_dim",
        "rate_rank": "a_low_rank_dim",
        "value_rank": "v_low_rank_dim",
        "gate_rank": "gate_low_rank_dim",
    }
    others: dict[str, Any] = {
        ours: settings[key] if isinstance(settings.get(key), int) else 0 for ours, key in names.items()
    }
    if message := too_large({**needed, **others}):
        raise UserError(f"{file} has {message}")
    try:
        return Rwkv7Config(**needed, **others)
    except ValueError as error:
        raise UserError(f"{file}: {error}") from error


def check_announced(file: Path, config: Rwkv7Config, settings: Mapping[str, Any]) -> None:
    """Raises UserError where config.json names a size that the tensors do not have."""
    sizes = {
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "head_dim": config.head_size,
        "head_size": config.head_size,
    }
    compare_sizes(file, sizes, settings)
