"""Names of tensors in a file: what training programs put around them, and which network they belong to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")

WRAPPERS = ("module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Parts of a name that data parallelism, compilation and checkpointing put in; no network of ours has them."""
OUTER = "model."
"""What a class that holds the network puts before every name."""

_HF = "model=hf model.path=<folder with config.json, weights and tokenizer> reads it"
_NOT_YET = "this version does not read it yet"
_HERE_6 = "here, and for model_type=rwkv6 in a config.json, an RWKV-6 is expected"
_NETWORKS = (
    (r"\.(att|attn|attention)\.r_k$", "an RWKV-7", _HERE_6),
    (r"\.(att|attention)\.(time_maa_w1|time_decay_w1)$", "an RWKV-6", ""),
    (r"\.(att|attention)\.(time_mix_g|time_mix_gate|gate\.weight)$", "an RWKV-5", _HERE_6),
    (r"\.(att|attention)\.ln_x\.weight$", "an RWKV-5", _HERE_6),
    (r"^(rwkv\.)?blocks\.\d+\.(att|attention)\.time_first$", "an RWKV-4", _HERE_6),
    (r"(^|\.)embeddings\.word_embeddings\.weight$", "a BERT or a relative of it", _HF),
    (r"(^|\.)wte\.weight$", "a GPT-2 or a relative of it", _HF),
    (r"(^|\.)layers\.\d+\.self_attn\.q_proj\.weight$", "a Llama or a relative of it", _HF),
    (r"(^|\.)(encoder|decoder)\.(block|layers?)\.\d+\.", "an encoder or decoder of transformers", _HF),
)
"""A name that is in each checkpoint of a network, the network, and what to do with it; the first that fits counts."""
_MODEL_TYPES = {
    "rwkv": "an RWKV-4: here an RWKV-6 is expected",
    "rwkv5": "an RWKV-5: here an RWKV-6 is expected",
    "rwkv7": "an RWKV-7: here an RWKV-6 is expected",
}


def unwrapped(tensors: Mapping[str, T]) -> tuple[dict[str, T], list[str]]:
    """The tensors without what stands around all names, and what that was.

    `model.` goes only where every name but the head's begins with it.

    Raises:
        ValueError: two names become the same.
    """
    plain: dict[str, T] = {}
    given: dict[str, str] = {}
    removed: list[str] = []
    outer = bool(tensors) and any(name.startswith(OUTER) for name in map(_without_wrappers, tensors))
    outer = outer and all(name.startswith((OUTER, "head.", "lm_head.")) for name in map(_without_wrappers, tensors))
    for name, tensor in tensors.items():
        bare = _without_wrappers(name)
        bare = bare.removeprefix(OUTER) if outer else bare
        removed += [part for part in WRAPPERS if part in name.split(".") and part not in removed]
        if bare in plain:
            raise ValueError(f"{given[bare]} and {name} are both {bare}")
        plain[bare], given[bare] = tensor, name
    return plain, [f"{part}." for part in removed] + [OUTER] * outer


def network_of(names: Iterable[str]) -> str | None:
    """`a BERT or a relative of it (its NAME shows): KEY reads it`; None for an RWKV-6 and for what is not known."""
    names = [_without_wrappers(name) for name in names]
    for pattern, network, advice in _NETWORKS:
        for name in names:
            if re.search(pattern, name):
                return f"{network}, as {name} shows: {advice}" if advice else None
    return None


def network_of_type(model_type: object) -> str:
    """The network of a config.json that is not of an RWKV-6, and what to do with it."""
    if not isinstance(model_type, str):
        return "no name of a network: expected rwkv, rwkv5, rwkv6 or rwkv7"
    if model_type in _MODEL_TYPES:
        return _MODEL_TYPES[model_type]
    if model_type.startswith("rwkv"):
        return f"another RWKV than an RWKV-4, 5, 6 or 7: {_NOT_YET}"
    return "no RWKV-4 to 7: where transformers knows it, model=hf model.path=<this folder> reads it"


def _without_wrappers(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)
