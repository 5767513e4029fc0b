"""Random RWKV-7 checkpoints in the author's layout, written without the package's code, and the network's published
equations in NumPy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sizes:
    """Of a random checkpoint. ranks: of w, a, v and g."""

    blocks: int = 3
    heads: int = 2
    head_size: int = 8
    wide: int = 40
    ranks: tuple[int, int, int, int] = (3, 5, 4, 6)
    vocab: int = 256

    @property
    def hidden(self) -> int:
        return self.heads * self.head_size


def author_checkpoint(sizes: Sizes, seed: int = 0) -> dict[str, Tensor]:
    """Names and shapes as the author's files have them; every number is random, so each of them matters."""
    random = torch.Generator().manual_seed(seed)
    hidden = sizes.hidden

    def normal(*shape: int, std: float = 1.0, mean: float = 0.0) -> Tensor:
        return torch.randn(*shape, generator=random) * std + mean

    def norm(name: str) -> dict[str, Tensor]:
        return {f"{name}.weight": normal(hidden, std=0.3, mean=1.0), f"{name}.bias": normal(hidden, std=0.2)}

    actual = {"emb.weight": normal(sizes.vocab, hidden), **norm("blocks.0.ln0")}
    for index in range(sizes.blocks):
        att, ffn = f"blocks.{index}.att.", f"blocks.{index}.ffn."
        actual |= norm(f"blocks.{index}.ln1") | norm(f"blocks.{index}.ln2") | norm(f"{att}ln_x")
        for letter in "rwkvag":
            actual[f"{att}x_{letter}"] = normal(1, 1, hidden, std=0.3, mean=0.5)
        for letter, rank in zip("wavg", sizes.ranks, strict=True):
            if letter == "v" and index == 0:
                continue
            actual[f"{att}{letter}1"] = normal(hidden, rank, std=hidden**-0.5)
            actual[f"{att}{letter}2"] = normal(rank, hidden, std=rank**-0.5)
            if letter != "g":
                actual[f"{att}{letter}0"] = normal(1, 1, hidden)
        actual |= {f"{att}k_k": normal(1, 1, hidden, std=0.2, mean=0.8), f"{att}k_a": normal(1, 1, hidden, mean=0.5)}
        actual[f"{att}r_k"] = normal(sizes.heads, sizes.head_size, std=0.3)
        for name in ("receptance", "key", "value", "output"):
            actual[f"{att}{name}.weight"] = normal(hidden, hidden, std=hidden**-0.5)
        actual[f"{ffn}x_k"] = normal(1, 1, hidden, std=0.3, mean=0.5)
        actual[f"{ffn}key.weight"] = normal(sizes.wide, hidden, std=hidden**-0.5)
        actual[f"{ffn}value.weight"] = normal(hidden, sizes.wide, std=sizes.wide**-0.5)
    return actual | norm("ln_out") | {"head.weight": normal(sizes.vocab, hidden)}


def numpy_layers(checkpoint: dict[str, Tensor], ids: list[int], fault: str | None = None) -> Array:
    """The embedding after ln0, every block's output and the final norm's, [L + 2, T, D] in fp64, from the equations of
    the paper, token by token.

    fault: an error that others made: `late_projection` (from the state after its decay), `logistic_decay` (sigma(z) as
    the decay), `late_removal_key` (from the key after its scaling by k_a).
    """
    z = {name: tensor.double().squeeze().numpy() for name, tensor in checkpoint.items()}
    heads, size = checkpoint["blocks.0.att.r_k"].shape
    blocks = 1 + max(int(name.split(".")[1]) for name in z if name.startswith("blocks."))
    zero = [np.zeros(heads * size) for _ in range(blocks)]
    att_before, ffn_before = list(zero), list(zero)
    states = [np.zeros((heads, size, size)) for _ in range(blocks)]
    out = []
    for token in ids:
        x = _norm(z["emb.weight"][token], z, "blocks.0.ln0")
        rows, first = [x], zero[0]
        for i in range(blocks):
            u = _norm(x, z, f"blocks.{i}.ln1")
            added, first, states[i] = _time_mix(z, i, u, att_before[i], first, states[i], fault)
            x, att_before[i] = x + added, u
            u = _norm(x, z, f"blocks.{i}.ln2")
            mixed = u + (ffn_before[i] - u) * z[f"blocks.{i}.ffn.x_k"]
            hidden = np.maximum(z[f"blocks.{i}.ffn.key.weight"] @ mixed, 0) ** 2
            x, ffn_before[i] = x + z[f"blocks.{i}.ffn.value.weight"] @ hidden, u
            rows.append(x)
        out.append([*rows, _norm(x, z, "ln_out")])
    return np.array(out).swapaxes(0, 1)


def _time_mix(
    z: dict[str, Array], i: int, u: Array, before: Array, first: Array, state: Array, fault: str | None
) -> tuple[Array, Array, Array]:
    """Equations of one time mix: what it adds, block 0's value, the new state [H, V, K]."""
    p = {name.removeprefix(f"blocks.{i}.att."): a for name, a in z.items() if name.startswith(f"blocks.{i}.att.")}
    heads, size = state.shape[:2]
    r, w, k, v, a, g = (u + (before - u) * p[f"x_{letter}"] for letter in "rwkvag")
    r, k, value = p["receptance.weight"] @ r, p["key.weight"] @ k, p["value.weight"] @ v
    decay = _sigma(p["w0"] + np.tanh(w @ p["w1"]) @ p["w2"])
    decay = decay if fault == "logistic_decay" else np.exp(-math.exp(-0.5) * decay)
    rate, gate = _sigma(p["a0"] + a @ p["a1"] @ p["a2"]), _sigma(g @ p["g1"]) @ p["g2"]
    if i == 0:
        first = value
    else:
        value = value + (first - value) * _sigma(p["v0"] + v @ p["v1"] @ p["v2"])
    scaled = k * (1 + (rate - 1) * p["k_a"])
    kk = ((scaled if fault == "late_removal_key" else k) * p["k_k"]).reshape(heads, size)
    kk = kk / np.maximum(np.linalg.norm(kk, axis=1, keepdims=True), 1e-12)
    r, k, value, decay, rate = (x.reshape(heads, 1, size) for x in (r, scaled, value, decay, rate))
    decayed = state * decay
    read = (decayed if fault == "late_projection" else state) @ kk[:, :, None]
    state = decayed - read * (rate * kk[:, None]) + value.swapaxes(1, 2) * k
    y = (state @ r.swapaxes(1, 2))[:, :, 0]
    y = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + 64e-5)
    y = y.ravel() * p["ln_x.weight"] + p["ln_x.bias"]
    bonus = (r * k * p["r_k"].reshape(heads, 1, size)).sum(2, keepdims=True) * value
    return p["output.weight"] @ ((y + bonus.ravel()) * gate), first, state


def _norm(x: Array, z: dict[str, Array], name: str) -> Array:
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5) * z[f"{name}.weight"] + z[f"{name}.bias"]


def _sigma(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def fla_names(checkpoint: dict[str, Tensor], one_mix: bool = False) -> dict[str, Tensor]:
    """In fla's layout: low-rank factors transposed, vectors flat; `one_mix`: six mixes in one tensor, as once."""
    flat = ("k_k", "k_a", "x_k")
    projections = {"receptance": "r_proj", "key": "k_proj", "value": "v_proj", "output": "o_proj"}
    norms = {"ln0": "pre_norm", "ln1": "attn_norm", "ln2": "ffn_norm"}
    outside = {"emb": "model.embeddings", "ln_out": "model.norm", "head": "lm_head"}
    actual: dict[str, Tensor] = {}
    for name, tensor in checkpoint.items():
        parts = name.split(".")
        if parts[0] in outside:
            actual[".".join([outside[parts[0]], *parts[1:]])] = tensor
            continue
        before, half, rest = f"model.layers.{parts[1]}.", parts[2], parts[3:]
        if half in norms:
            actual[f"{before}{norms[half]}.{rest[0]}"] = tensor
        elif half == "ffn":
            actual[f"{before}ffn.{'.'.join(rest)}"] = tensor.flatten() if rest[0] in flat else tensor
        elif rest[0] in projections:
            actual[f"{before}attn.{projections[rest[0]]}.weight"] = tensor
        elif rest[0] == "ln_x":
            actual[f"{before}attn.g_norm.{rest[1]}"] = tensor
        elif rest[0][0] in "wavg" and rest[0][1] in "012":
            place = {"0": "2.bias", "1": "0.weight", "2": "2.weight"}[rest[0][1]]
            bias = place.endswith("bias")
            actual[f"{before}attn.{rest[0][0]}_lora.lora.{place}"] = (
                tensor.flatten() if bias else tensor.t().contiguous()
            )
        else:
            actual[f"{before}attn.{rest[0]}"] = tensor.flatten() if rest[0] in flat else tensor
    for block in {name.rpartition("x_r")[0] for name in actual if name.endswith("attn.x_r")} if one_mix else ():
        actual[f"{block}x_x"] = torch.stack([actual.pop(f"{block}x_{letter}").flatten() for letter in "rwkvag"])
    return actual


def native_names(checkpoint: dict[str, Tensor]) -> dict[str, Tensor]:
    """As transformers names them: the author's names behind `rwkv7.`."""
    return {name if name == "head.weight" else f"rwkv7.{name}": tensor for name, tensor in checkpoint.items()}


def linear_factors(checkpoint: dict[str, Tensor], fold_norm: bool = True) -> dict[str, Tensor]:
    """The author's names behind `model.`, low-rank factors as linear layers, and `ln0` folded into the table."""
    actual = {}
    for name, tensor in checkpoint.items():
        part = name.rpartition(".")[2]
        if name == "head.weight":
            actual[name] = tensor
        elif part in [letter + number for letter in "wavg" for number in "12"]:
            actual[f"model.{name}.weight"] = tensor.t().contiguous()
        else:
            actual[f"model.{name.replace('emb.', 'embeddings.')}"] = tensor
    if fold_norm:
        norm = [actual.pop(f"model.blocks.0.ln0.{part}") for part in ("weight", "bias")]
        table = actual["model.embeddings.weight"]
        actual["model.embeddings.weight"] = torch.nn.functional.layer_norm(table, table.shape[1:], *norm)
    return actual
