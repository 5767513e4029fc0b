"""The WKV-7 operator: the token loop against the published equation in NumPy, the chunked form against both, and what
the three errors that others made would look like."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.wkv7 import wkv7_chunked, wkv7_naive

pytestmark = pytest.mark.usefixtures("one_thread")

Array = NDArray[np.float64]
SCALE = 0.6065306597126334
"""exp(-1/2)."""


def inputs(
    lengths: list[int], heads: int, size: int, dtype: torch.dtype = torch.float32, shift: float = 0.0, seed: int = 0
) -> list[Tensor]:
    """r, log w, k, v, removal key, rate, each [T, H, S]; `shift` moves the decays' logits (far up: the strongest)."""
    random = torch.Generator().manual_seed(seed)
    tokens = sum(lengths)
    r, w, k, v, kk, a = (torch.randn(tokens, heads, size, generator=random, dtype=torch.float64) for _ in range(6))
    kk = kk / kk.norm(dim=-1, keepdim=True)
    return [x.to(dtype) for x in (r, -SCALE * torch.sigmoid(w + shift), k, v, kk, torch.sigmoid(a))]


def published(r: Array, log_w: Array, k: Array, v: Array, kk: Array, a: Array) -> tuple[Array, Array]:
    """One head of one sentence [T, S]: S_t = S_{t-1} (diag(w_t) - kk_t (a_t kk_t)^T) + v_t k_t^T, y_t = S_t r_t."""
    state, out = np.zeros((v.shape[1], k.shape[1])), []
    for t in range(len(r)):
        transition = np.diag(np.exp(log_w[t])) - np.outer(kk[t], a[t] * kk[t])
        state = state @ transition + np.outer(v[t], k[t])
        out.append(state @ r[t])
    return np.array(out), state


def by_numpy(args: list[Tensor], lengths: list[int]) -> tuple[Tensor, Tensor]:
    """y [T, H, V] and states [B, H, K, V], sentence by sentence and head by head."""
    y, states, start = torch.empty_like(args[3]).double(), [], 0
    for length in lengths:
        rows = slice(start, start + length)
        for head in range(args[0].shape[1]):
            out, state = published(*(x[rows, head].double().numpy() for x in args))
            y[rows, head] = torch.from_numpy(out)
            states.append(torch.from_numpy(state.T.copy()))
        start += length
    return y, torch.stack(states).unflatten(0, (len(lengths), -1))


def distance(actual: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest number expected."""
    return float((actual.double() - expected.double()).abs().max() / expected.abs().max())


Operator = Callable[..., tuple[Tensor, Tensor]]


@pytest.mark.parametrize("operator", [wkv7_naive, wkv7_chunked])
@pytest.mark.parametrize(("heads", "size"), [(1, 64), (2, 64), (3, 8), (2, 16), (1, 1)])
def test_both_forms_equal_the_published_equation(operator: Operator, heads: int, size: int) -> None:
    lengths = [1, 2, 33, 7, 64, 5]
    args = inputs(lengths, heads, size)
    y, states = operator(*args, Packed.of(lengths))
    expected, expected_states = by_numpy(args, lengths)
    assert y.dtype == torch.float32
    assert distance(y, expected) < 3e-6 and distance(states, expected_states) < 3e-6


@pytest.mark.parametrize("chunk", [1, 2, 3, 16, 32, 64, 128])
@pytest.mark.parametrize("shift", [-20.0, 0.0, 20.0])
def test_every_chunk_length_and_strength_of_decay(chunk: int, shift: float) -> None:
    """At the strongest decay, 0.545 a token, 1 / decay grows to e^77 over 128 tokens."""
    lengths = [7, 150, 1, 40, 128]
    args = inputs(lengths, 2, 16, shift=shift)
    y, states = wkv7_chunked(*args, Packed.of(lengths), chunk)
    expected, expected_states = wkv7_naive(*(x.double() for x in args), Packed.of(lengths))
    assert distance(y, expected) < 1e-5 and distance(states, expected_states) < 1e-5


@pytest.mark.parametrize("lengths", [[1], [1, 1, 1], [700], [16], [15], [17], [32], [33]])
def test_edge_lengths(lengths: list[int]) -> None:
    args = inputs(lengths, 2, 8)
    y, states = wkv7_chunked(*args, Packed.of(lengths))
    expected, expected_states = wkv7_naive(*(x.double() for x in args), Packed.of(lengths))
    assert distance(y, expected) < 1e-5 and distance(states, expected_states) < 1e-5


@pytest.mark.parametrize("operator", [wkv7_naive, wkv7_chunked])
def test_empty_batch(operator: Operator) -> None:
    y, states = operator(*inputs([], 2, 8), Packed.of([]))
    assert y.shape == (0, 2, 8) and states.shape == (0, 2, 8, 8)


@pytest.mark.parametrize("operator", [wkv7_naive, wkv7_chunked])
def test_a_key_of_length_zero_removes_nothing(operator: Operator) -> None:
    lengths = [40]
    r, log_w, k, v, kk, a = inputs(lengths, 2, 8)
    y, _ = operator(r, log_w, k, v, torch.zeros_like(kk), a, Packed.of(lengths))
    args = [r, log_w, k, v, torch.zeros_like(kk), a]
    assert torch.isfinite(y).all() and distance(y, by_numpy(args, lengths)[0]) < 3e-6


def test_gradients_of_both_forms_are_equal() -> None:
    lengths, actual = [1, 21, 40], []
    for operator in (wkv7_naive, wkv7_chunked):
        args = [x.clone().requires_grad_() for x in inputs(lengths, 2, 8, torch.float64)]
        y, states = operator(*args, Packed.of(lengths))
        (y.sin().sum() + states.cos().sum()).backward()
        actual.append([x.grad for x in args])
    for naive, chunked in zip(*actual, strict=True):
        assert naive is not None and chunked is not None
        torch.testing.assert_close(chunked, naive, rtol=1e-9, atol=1e-9)


def decay_before_projection(*args: Tensor) -> tuple[Tensor, Tensor]:
    """What is removed is read from the state after its decay: S diag(w) (I - kk (a kk)^T). Wrong."""
    r, log_w, k, v, kk, a = args
    state, out = torch.zeros(r.shape[1], v.shape[2], k.shape[2], dtype=r.dtype), []
    for t in range(len(r)):
        state = state * log_w[t].exp()[:, None]
        read = torch.einsum("hvk,hk->hv", state, kk[t])
        state = state - read[:, :, None] * (a[t] * kk[t])[:, None] + v[t][:, :, None] * k[t][:, None]
        out.append(torch.einsum("hvk,hk->hv", state, r[t]))
    return torch.stack(out), state


def logistic_as_decay(*args: Tensor) -> tuple[Tensor, Tensor]:
    """sigma(z) itself, not exp(-exp(-1/2) sigma(z)). Wrong."""
    r, log_w, *others = args
    return wkv7_naive(r, (log_w / -SCALE).log(), *others, Packed.of([len(r)]))


@pytest.mark.parametrize("operator", [wkv7_naive, wkv7_chunked])
@pytest.mark.parametrize("wrong", [decay_before_projection, logistic_as_decay])
def test_known_errors_are_far_away(operator: Operator, wrong: Callable[..., tuple[Tensor, Tensor]]) -> None:
    args = inputs([60], 2, 16, torch.float64)
    expected, _ = by_numpy(args, [60])
    y, _ = operator(*args, Packed.of([60]))
    assert distance(y, expected) < 1e-12 and distance(wrong(*args)[0], expected) > 0.03
