"""The WKV-4 operator: token by token, as a parallel scan, and compiled, against a softmax over all tokens before."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.numba import compiling
from rwkv_sweep.ops.numba.wkv4 import wkv4
from rwkv_sweep.ops.wkv4 import wkv4_reference, wkv4_scan

pytestmark = pytest.mark.usefixtures("one_thread")

Operator = Callable[[Tensor, Tensor, Tensor, Tensor, Packed], Tensor]


def compiled_alone(k_TA: Tensor, v_TA: Tensor, log_w_A: Tensor, u_A: Tensor, packed: Packed) -> Tensor:
    """The compiled operator without its receptance: the sigmoid of 30 is 1."""
    return wkv4(torch.full_like(k_TA, 30), k_TA, v_TA, log_w_A, u_A, packed)


OPERATORS: dict[str, Operator] = {"reference": wkv4_reference, "scan": wkv4_scan, "compiled": compiled_alone}


def inputs(
    lengths: list[int], channels: int, key_size: float = 1.0, decay: float = -1.0
) -> tuple[Tensor, Tensor, Tensor, Tensor, Packed]:
    random = torch.Generator().manual_seed(0)
    k_TA, v_TA = torch.randn(2, sum(lengths), channels, generator=random)
    log_w_A = -torch.exp(torch.randn(channels, generator=random) + decay)
    return key_size * k_TA, v_TA, log_w_A, torch.randn(channels, generator=random), Packed.of(lengths)


def by_softmax(k_TA: Tensor, v_TA: Tensor, log_w_A: Tensor, u_A: Tensor, packed: Packed) -> Tensor:
    """Each token's average by PyTorch's softmax over exponents in fp64."""
    rows = []
    for k_NA, v_NA in zip(k_TA.double().split(packed.lengths), v_TA.double().split(packed.lengths), strict=True):
        for t in range(len(k_NA)):
            ages_t1 = torch.arange(t - 1, -1, -1, dtype=torch.float64)[:, None]
            exponents = torch.cat([ages_t1 * log_w_A.double() + k_NA[:t], (u_A.double() + k_NA[t])[None]])
            rows.append((torch.softmax(exponents, 0) * v_NA[: t + 1]).sum(0))
    return torch.stack(rows)


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
@pytest.mark.parametrize("lengths", [[1], [1, 1, 2, 3], [64], [5, 33, 1, 130, 17], [257]])
@pytest.mark.parametrize("channels", [1, 8, 72])
def test_operators_equal_a_softmax_over_all_tokens_before(
    operator: Operator, lengths: list[int], channels: int
) -> None:
    arguments = inputs(lengths, channels)
    torch.testing.assert_close(operator(*arguments).double(), by_softmax(*arguments), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
@pytest.mark.parametrize(
    ("key_size", "decay"), [(1.0, -12.0), (1.0, 3.0), (1.0, 20.0), (40.0, -1.0), (1000.0, -1.0), (1e4, -8.0)]
)
def test_large_keys_and_strong_or_weak_decays_stay_finite_and_exact(
    operator: Operator, key_size: float, decay: float
) -> None:
    """Exponents far beyond the range of an exponential in fp32."""
    arguments = inputs([3, 90, 1], 24, key_size, decay)
    averages_TA = operator(*arguments)
    assert torch.isfinite(averages_TA).all()
    torch.testing.assert_close(averages_TA.double(), by_softmax(*arguments), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_an_empty_batch_gives_nothing(operator: Operator) -> None:
    assert operator(*inputs([], 8)).shape == (0, 8)


@pytest.mark.parametrize("operator", OPERATORS.values(), ids=OPERATORS)
def test_a_sentence_is_not_influenced_by_its_neighbours(operator: Operator) -> None:
    k_TA, v_TA, log_w_A, u_A, packed = inputs([7, 20, 1], 8)
    together = operator(k_TA, v_TA, log_w_A, u_A, packed).split(packed.lengths)
    for rows, k_NA, v_NA in zip(together, k_TA.split(packed.lengths), v_TA.split(packed.lengths), strict=True):
        torch.testing.assert_close(rows, operator(k_NA, v_NA, log_w_A, u_A, Packed.of([len(k_NA)])))


@pytest.mark.parametrize("little", [0, 10**12])
def test_compiled_operator_applies_the_receptance_over_several_threads_and_one(
    little: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(2)
    monkeypatch.setattr(compiling, "LITTLE", little)
    arguments = inputs([5, 70, 1], 72)
    r_TA = 3 * torch.randn(76, 72, generator=torch.Generator().manual_seed(1))
    expected = torch.sigmoid(r_TA.double()) * by_softmax(*arguments)
    torch.testing.assert_close(wkv4(r_TA, *arguments).double(), expected, rtol=1e-5, atol=1e-5)


def test_gradients_of_the_scan_are_those_of_the_reference() -> None:
    *tensors, packed = inputs([6, 1, 11], 4)
    gradients = []
    for operator in (wkv4_reference, wkv4_scan):
        leaves = [tensor.double().requires_grad_() for tensor in tensors]
        (operator(*leaves, packed) ** 2).sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for ours, expected in zip(*reversed(gradients), strict=True):
        assert ours is not None and expected is not None and torch.isfinite(expected).all()
        torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-10)
