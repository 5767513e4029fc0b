"""Random RWKV-5 checkpoints in the author's layout, written without the package's code, and the network's published
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
    head_size: int = 8
    wide: int = 40
    inner: int = 0
    vocab: int = 256

    @property
    def heads(self) -> int:
        return (self.inner or self.hidden) // self.head_size


def author_checkpoint(sizes: Sizes, version: str = "5.2", seed: int = 0) -> dict[str, Tensor]:
    """Names and shapes as the author's files have them; every number is random, so each of them matters.

    version: `5.2`; `5.1` (one decay and bonus a head), `5.1 first` (its bonus before the exponential), `5.0` (no gate).
    """
    random = torch.Generator().manual_seed(seed)
    hidden, inner = sizes.hidden, sizes.heads * sizes.head_size

    def normal(*shape: int, std: float = 1.0, mean: float = 0.0) -> Tensor:
        return torch.randn(*shape, generator=random) * std + mean

    def norm(name: str, width: int = hidden) -> dict[str, Tensor]:
        return {f"{name}.weight": normal(width, std=0.3, mean=1.0), f"{name}.bias": normal(width, std=0.2)}

    actual = {"emb.weight": normal(sizes.vocab, hidden), **norm("blocks.0.ln0")}
    per_head = (sizes.heads, sizes.head_size) if version == "5.2" else (sizes.heads,)
    for index in range(sizes.blocks):
        att, ffn = f"blocks.{index}.att.", f"blocks.{index}.ffn."
        actual |= norm(f"blocks.{index}.ln1") | norm(f"blocks.{index}.ln2") | norm(f"{att}ln_x", inner)
        actual[f"{att}time_decay"] = normal(*per_head, mean=-1.0)
        actual[f"{att}{'time_first' if version in ('5.0', '5.1 first') else 'time_faaaa'}"] = normal(*per_head, std=0.5)
        for letter in "kvr" if version == "5.0" else "kvrg":
            actual[f"{att}time_mix_{letter}"] = normal(1, 1, hidden, std=0.3, mean=0.5)
        for name in ("receptance", "key", "value", *(() if version == "5.0" else ("gate",))):
            actual[f"{att}{name}.weight"] = normal(inner, hidden, std=hidden**-0.5)
        actual[f"{att}output.weight"] = normal(hidden, inner, std=inner**-0.5)
        actual |= {f"{ffn}time_mix_{letter}": normal(1, 1, hidden, std=0.3, mean=0.5) for letter in "kr"}
        actual[f"{ffn}key.weight"] = normal(sizes.wide, hidden, std=hidden**-0.5)
        actual[f"{ffn}receptance.weight"] = normal(hidden, hidden, std=hidden**-0.5)
        actual[f"{ffn}value.weight"] = normal(hidden, sizes.wide, std=sizes.wide**-0.5)
    return actual | norm("ln_out") | {"head.weight": normal(sizes.vocab, hidden)}


def numpy_layers(checkpoint: dict[str, Tensor], ids: list[int], fault: str | None = None) -> Array:
    """The embedding after ln0, every block's output and the final norm's, [L + 2, T, D] in fp64, from the equations of
    the paper for version 5.2, token by token.

    fault: an error that a port could make: `swapped_share` (of the token before for that of the current one),
    `late_read` (after the update), `exponential_bonus`, `undivided_norm` (1e-5 on the undivided output).
    """
    z = {name: tensor.double().squeeze().numpy() for name, tensor in checkpoint.items()}
    heads, size = checkpoint["blocks.0.att.time_decay"].shape
    blocks = 1 + max(int(name.split(".")[1]) for name in z if name.startswith("blocks."))
    zero = np.zeros(checkpoint["emb.weight"].shape[1])
    att_before, ffn_before = [zero] * blocks, [zero] * blocks
    states = [np.zeros((heads, size, size)) for _ in range(blocks)]
    out = []
    for token in ids:
        x = _norm(z["emb.weight"][token], z, "blocks.0.ln0")
        rows = [x]
        for i in range(blocks):
            u = _norm(x, z, f"blocks.{i}.ln1")
            added, states[i] = _time_mix(z, i, u, att_before[i], states[i], fault)
            x, att_before[i] = x + added, u
            u = _norm(x, z, f"blocks.{i}.ln2")
            p = {name.removeprefix(f"blocks.{i}.ffn."): a for name, a in z.items()}
            k, r = (_mixed(u, ffn_before[i], p[f"time_mix_{letter}"], fault) for letter in "kr")
            wide = p["value.weight"] @ np.maximum(p["key.weight"] @ k, 0) ** 2
            x, ffn_before[i] = x + _sigma(p["receptance.weight"] @ r) * wide, u
            rows.append(x)
        out.append([*rows, _norm(x, z, "ln_out")])
    return np.array(out).swapaxes(0, 1)


def _time_mix(
    z: dict[str, Array], i: int, u: Array, before: Array, state: Array, fault: str | None
) -> tuple[Array, Array]:
    """Equations of one time mix: what it adds, and the new state [H, K, V]."""
    p = {name.removeprefix(f"blocks.{i}.att."): a for name, a in z.items()}
    heads, size = state.shape[:2]
    k, v, r, g = (_mixed(u, before, p[f"time_mix_{letter}"], fault) for letter in "kvrg")
    r, k, v = (p[f"{name}.weight"] @ x for name, x in (("receptance", r), ("key", k), ("value", v)))
    g = p["gate.weight"] @ g
    r, k, v = (x.reshape(heads, size) for x in (r, k, v))
    w, bonus = (p[name].reshape(heads, size, 1) for name in ("time_decay", "time_faaaa"))
    bonus = np.exp(bonus) if fault == "exponential_bonus" else bonus
    kv = k[:, :, None] * v[:, None, :]
    new = np.exp(-np.exp(w)) * state + kv
    y = (r[:, :, None] * (new if fault == "late_read" else bonus * kv + state)).sum(1)
    eps = 1e-5 if fault == "undivided_norm" else 64e-5
    y = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + eps)
    y = y.ravel() * p["ln_x.weight"] + p["ln_x.bias"]
    return p["output.weight"] @ (y * g * _sigma(g)), new


def _mixed(u: Array, before: Array, share: Array, fault: str | None) -> Array:
    share = 1 - share if fault == "swapped_share" else share
    return u * share + before * (1 - share)


def _norm(x: Array, z: dict[str, Array], name: str) -> Array:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * z[f"{name}.weight"] + z[f"{name}.bias"]


def _sigma(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))
