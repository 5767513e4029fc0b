"""Random RWKV-4 checkpoints in the author's layout, written without the package's code, and the network's published
equations in NumPy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sizes:
    """Of a random checkpoint. inner: width of keys and values; 0 for the hidden size."""

    blocks: int = 3
    hidden: int = 16
    wide: int = 64
    inner: int = 0
    vocab: int = 256


def author_checkpoint(sizes: Sizes, seed: int = 0) -> dict[str, Tensor]:
    """Names and shapes as the author's files have them; every number is random, so each of them matters."""
    random = torch.Generator().manual_seed(seed)
    hidden, inner = sizes.hidden, sizes.inner or sizes.hidden

    def normal(*shape: int, std: float = 1.0, mean: float = 0.0) -> Tensor:
        return torch.randn(*shape, generator=random) * std + mean

    def norm(name: str) -> dict[str, Tensor]:
        return {f"{name}.weight": normal(hidden, std=0.3, mean=1.0), f"{name}.bias": normal(hidden, std=0.2)}

    tensors = {"emb.weight": normal(sizes.vocab, hidden), **norm("blocks.0.ln0")}
    for index in range(sizes.blocks):
        att, ffn = f"blocks.{index}.att.", f"blocks.{index}.ffn."
        tensors |= norm(f"blocks.{index}.ln1") | norm(f"blocks.{index}.ln2")
        tensors |= {f"{att}time_decay": normal(inner, std=2.0, mean=-1.0), f"{att}time_first": normal(inner)}
        for letter in "kvr":
            tensors[f"{att}time_mix_{letter}"] = normal(1, 1, hidden, std=0.3, mean=0.5)
        tensors[f"{att}key.weight"] = normal(inner, hidden, std=2 * hidden**-0.5)
        for name in ("receptance", "value"):
            tensors[f"{att}{name}.weight"] = normal(inner, hidden, std=hidden**-0.5)
        tensors[f"{att}output.weight"] = normal(hidden, inner, std=inner**-0.5)
        tensors |= {f"{ffn}time_mix_{letter}": normal(1, 1, hidden, std=0.3, mean=0.5) for letter in "kr"}
        tensors[f"{ffn}key.weight"] = normal(sizes.wide, hidden, std=hidden**-0.5)
        tensors[f"{ffn}receptance.weight"] = normal(hidden, hidden, std=hidden**-0.5)
        tensors[f"{ffn}value.weight"] = normal(hidden, sizes.wide, std=sizes.wide**-0.5)
    return tensors | norm("ln_out") | {"head.weight": normal(sizes.vocab, hidden)}


def numpy_layers(checkpoint: dict[str, Tensor], ids: list[int], fault: str | None = None) -> Array:
    """The embedding after ln0, every block's output and the final norm's, [L + 2, T, D] in fp64, from the equations of
    the paper, each token's average over all tokens before it.

    fault: an error that a port could make: `swapped_share` (of the token before for that of the current one),
    `early_decay` (of the token just before), `bonus_without_key`.
    """
    z = {name: tensor.double().squeeze().numpy() for name, tensor in checkpoint.items()}
    blocks = 1 + max(int(name.split(".")[1]) for name in z if name.startswith("blocks."))
    x = _norm(z["emb.weight"][ids], z, "blocks.0.ln0")
    layers = [x]
    for i in range(blocks):
        p = {name.removeprefix(f"blocks.{i}.att."): a for name, a in z.items()}
        u = _norm(x, z, f"blocks.{i}.ln1")
        k, v, r = (_mixed(u, p[f"time_mix_{letter}"], fault) for letter in "kvr")
        k, v, r = k @ p["key.weight"].T, v @ p["value.weight"].T, r @ p["receptance.weight"].T
        x = x + (_sigma(r) * _averages(k, v, p, fault)) @ p["output.weight"].T
        p = {name.removeprefix(f"blocks.{i}.ffn."): a for name, a in z.items()}
        u = _norm(x, z, f"blocks.{i}.ln2")
        k, r = (_mixed(u, p[f"time_mix_{letter}"], fault) for letter in "kr")
        wide = np.maximum(k @ p["key.weight"].T, 0) ** 2 @ p["value.weight"].T
        x = x + _sigma(r @ p["receptance.weight"].T) * wide
        layers.append(x)
    return np.array([*layers, _norm(x, z, "ln_out")])


def _averages(k: Array, v: Array, p: dict[str, Array], fault: str | None) -> Array:
    """Values [T, A], averaged for each token with the paper's weights."""
    decay = -np.exp(p["time_decay"])
    rows = []
    for t in range(len(k)):
        ages = np.arange(t, 0, -1) - (0 if fault == "early_decay" else 1)
        own = p["time_first"] + (0 if fault == "bonus_without_key" else k[t])
        exponents = np.concatenate([ages[:, None] * decay + k[:t], own[None]])
        weights = np.exp(exponents - exponents.max(0))
        rows.append((weights * v[: t + 1]).sum(0) / weights.sum(0))
    return np.array(rows)


def _mixed(u: Array, share: Array, fault: str | None) -> Array:
    share = 1 - share if fault == "swapped_share" else share
    before = np.concatenate([np.zeros_like(u[:1]), u[:-1]])
    return u * share + before * (1 - share)


def _norm(x: Array, z: dict[str, Array], name: str) -> Array:
    centred = x - x.mean(1, keepdims=True)
    return centred / np.sqrt(x.var(1, keepdims=True) + 1e-5) * z[f"{name}.weight"] + z[f"{name}.bias"]


def _sigma(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def folder_names(checkpoint: dict[str, Tensor]) -> dict[str, Tensor]:
    """As a folder of the hub names them, for RWKV-4 and RWKV-5."""
    words = {"k": "key", "v": "value", "r": "receptance", "g": "gate"}
    halves = (("emb.", "embeddings."), (".ln0.", ".pre_ln."), (".att.", ".attention."), (".ffn.", ".feed_forward."))
    tensors = {}
    for name, tensor in checkpoint.items():
        for author, theirs in halves:
            name = name.replace(author, theirs)
        if name[:-1].endswith("time_mix_"):
            name = name[:-1] + words[name[-1]]
        tensors[name if name == "head.weight" else f"rwkv.{name}"] = tensor
    return tensors
