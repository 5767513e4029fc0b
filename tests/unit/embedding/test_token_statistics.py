"""Entropy and curvature of a sentence's tokens against NumPy on tokens laid apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from rwkv_sweep.embedding.layer_encoder import RwkvEncoder
from rwkv_sweep.embedding.pooling import TOKEN_STATISTICS
from rwkv_sweep.embedding.token_statistics import token_statistics
from rwkv_sweep.ops.common.packing import Packed
from tests.small_models import encoder_of, random_config


def by_hand(tokens_TD: np.ndarray) -> list[float]:
    tokens_TD = tokens_TD.astype(np.float64)
    centred_TD = tokens_TD - tokens_TD.mean(0)
    rows_TD = np.array([row / np.linalg.norm(row) for row in centred_TD if np.linalg.norm(row) > 1e-9])
    entropy = 0.0
    if len(rows_TD):
        values = np.linalg.svd(rows_TD, compute_uv=False) ** 2
        shares = values[values > 0] / values.sum()
        entropy = -(shares * np.log(shares)).sum()
    angles = []
    for before, here, after in zip(tokens_TD, tokens_TD[1:], tokens_TD[2:], strict=False):
        one, two = here - before, after - here
        if one.any() and two.any():
            cosine = one @ two / (np.linalg.norm(one) * np.linalg.norm(two))
            angles.append(math.acos(np.clip(cosine, -1, 1)))
    return [entropy, sum(angles), len(angles)]


def compared(h_TD: Tensor, lengths: tuple[int, ...]) -> None:
    apart = np.split(h_TD.numpy(), np.cumsum(lengths)[:-1])
    actual_B3 = token_statistics(h_TD, Packed.of(lengths))
    assert actual_B3.dtype == torch.float32
    np.testing.assert_allclose(actual_B3.numpy(), [by_hand(tokens_TD) for tokens_TD in apart], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dims", [3, 8, 40])
@pytest.mark.parametrize("lengths", [(9, 3, 2, 1), (1,), (20, 20), (2, 2)])
def test_statistics_equal_numpy_on_each_sentence(dims: int, lengths: tuple[int, ...]) -> None:
    compared(5 + torch.randn(sum(lengths), dims, generator=torch.Generator().manual_seed(0)), lengths)


def test_equal_tokens_have_no_entropy_and_make_no_angle() -> None:
    h_TD = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    h_TD[1] = h_TD[0]  # a step of length zero
    h_TD[5:] = h_TD[5]  # a sentence of one token again and again
    compared(h_TD, (5, 4))
    assert token_statistics(h_TD, Packed.of((5, 4)))[1].tolist() == [0, 0, 0]


def test_a_straight_line_and_a_turn() -> None:
    line = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [2.0, 1.0], [2.0, 0.0]])
    assert token_statistics(line, Packed.of((5,)))[0, 1:].tolist() == pytest.approx([1.5 * math.pi, 3])


def test_an_encoder_gives_them_with_vectors_of_the_same_pass() -> None:
    """Of every layer, whatever the batches; the tokens are those that the network hands over."""
    encoder = encoder_of(random_config(), batch_tokens=30)
    sentences = ["a b c d e", "ffff", "g", "some more words"]
    layers = [0, 2, 3]
    actual = encoder.encode(sentences, layers, ["mean", TOKEN_STATISTICS])
    assert actual[TOKEN_STATISTICS].shape == (3, 4, 3)
    for row, sentence in enumerate(sentences):
        expected_L3 = [by_hand(h_TD.numpy()) for h_TD in handed_over(encoder, sentence, layers)]
        np.testing.assert_allclose(actual[TOKEN_STATISTICS][:, row].numpy(), expected_L3, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def handed_over(encoder: RwkvEncoder, sentence: str, layers: list[int]) -> list[Tensor]:
    """The tokens of a sentence on its own, [T, D] of each layer."""
    tokens: list[Tensor] = []
    batch = encoder.batch(encoder.tokenize([sentence]), [0], [])
    encoder.loaded.model(batch.ids_T, batch.packed, layers, lambda _, h_TD: tokens.append(h_TD.clone()))
    return tokens
