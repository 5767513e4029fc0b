"""The chunked WKV-6 operator against the token-by-token reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.wkv6 import wkv6_chunked, wkv6_reference


def inputs(
    lengths: list[int], heads: int, size: int, dtype: torch.dtype = torch.float32, decay: float = -2.0, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """r, k, v [T, H, S], log decays around -exp(decay), and the bonus [H, S]."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64).to(dtype)

    tokens = sum(lengths)
    r, k, v, d = (normal(tokens, heads, size) for _ in range(4))
    return r, k, v, -torch.exp(d + decay), normal(heads, size)


def assert_same(lengths: list[int], heads: int, size: int, decay: float = -2.0, chunk: int | None = None) -> None:
    packed = Packed.of(lengths)
    args = inputs(lengths, heads, size, decay=decay)
    y, state = wkv6_chunked(*args, packed, chunk)
    expected, expected_state = wkv6_reference(*(x.double() for x in args), packed)
    scale = expected.abs().max()
    assert y.dtype == torch.float32 and y.shape == expected.shape and state.shape == expected_state.shape
    assert (y - expected).abs().max() <= 1e-5 * scale
    assert (state - expected_state).abs().max() <= 1e-5 * expected_state.abs().max()


@pytest.mark.parametrize("size", [8, 16, 32, 64])
def test_ragged_batch_equals_reference(size: int) -> None:
    assert_same([1, 2, 3, 15, 16, 17, 33, 5, 1, 48], heads=3, size=size)


@pytest.mark.parametrize("lengths", [[1], [1, 1, 1], [700], [16], [4], [17]])
def test_edge_lengths_equal_reference(lengths: list[int]) -> None:
    assert_same(lengths, heads=2, size=8)


@pytest.mark.parametrize("chunk", [1, 2, 3, 4, 8, 16])
def test_every_chunk_length_equals_reference(chunk: int) -> None:
    assert_same([7, 40, 1, 33], heads=2, size=8, chunk=chunk)


@pytest.mark.parametrize("decay", [-9.0, 0.0, 1.5, 3.0, 6.0])
def test_weak_and_strong_decays_equal_reference(decay: float) -> None:
    """Log decays from -1e-4 to below -1e4, where exp(-log decay) is far beyond fp32."""
    assert_same([1, 50, 19], heads=2, size=16, decay=decay)


def test_one_extreme_decay_among_weak_ones_stays_finite_and_exact() -> None:
    packed = Packed.of([40])
    r, k, v, log_w, u = inputs([40], 1, 8)
    log_w[11, 0, 3] = -1e30
    y, state = wkv6_chunked(r, k, v, log_w, u, packed)
    expected, _ = wkv6_reference(r.double(), k.double(), v.double(), log_w.double(), u.double(), packed)
    assert torch.isfinite(y).all() and torch.isfinite(state).all()
    torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("operator", [wkv6_reference, wkv6_chunked])
def test_empty_batch(operator: object) -> None:
    assert callable(operator)
    y, state = operator(*inputs([], 2, 8), Packed.of([]))
    assert y.shape == (0, 2, 8) and state.shape == (0, 2, 8, 8)


def test_a_sentence_does_not_feel_its_neighbours() -> None:
    lengths = [5, 31, 1, 16]
    packed = Packed.of(lengths)
    r, k, v, log_w, u = inputs(lengths, 2, 8)
    y, state = wkv6_chunked(r, k, v, log_w, u, packed, chunk=16)
    for index, start in enumerate(packed.starts_B.tolist()):
        part = slice(start, start + lengths[index])
        alone, alone_state = wkv6_chunked(r[part], k[part], v[part], log_w[part], u, Packed.of([lengths[index]]), 16)
        torch.testing.assert_close(y[part], alone, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(state[index], alone_state[0], rtol=1e-5, atol=1e-5)


def test_gradients_equal_reference() -> None:
    lengths = [1, 21, 6]
    packed = Packed.of(lengths)
    plain = inputs(lengths, 2, 8, torch.float64, decay=-1.0)
    gradients = []
    for operator in (wkv6_chunked, wkv6_reference):
        args = [x.clone().requires_grad_() for x in plain]
        y, state = operator(*args, packed)
        (y.sin().sum() + state.cos().sum()).backward()
        gradients.append([x.grad for x in args])
    for ours, reference in zip(*gradients, strict=True):
        assert ours is not None and reference is not None
        torch.testing.assert_close(ours, reference, rtol=1e-9, atol=1e-9)


def test_a_length_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        Packed.of([3, 0])
