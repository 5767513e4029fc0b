"""Pooling of packed tokens against NumPy over sentences laid apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from rwkv_sweep.config.layer_spec import EMBEDDING
from rwkv_sweep.config.schema import POOLINGS, PoolingConfig
from rwkv_sweep.embedding.pooling import (
    POOLS,
    STATE,
    PooledTokens,
    check_pooling,
    final_pooling,
    idf_weights,
    name_of,
    read_state,
    source_of,
    vector_size,
)
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.rwkv6.network import Rwkv6Config
from rwkv_sweep.ops.common.packing import Packed

LENGTHS = (3, 1, 7, 2)

BY_HAND: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "mean": lambda h_TD, _: h_TD.sum(0) / len(h_TD),
    "last": lambda h_TD, _: h_TD[-1],
    "max": lambda h_TD, _: h_TD.max(0),
    "first_last": lambda h_TD, _: (h_TD[0] + h_TD[-1]) / 2,
    "position": lambda h_TD, _: np.average(h_TD, axis=0, weights=np.arange(1, len(h_TD) + 1)),
    "idf": lambda h_TD, weights_T: np.average(h_TD, axis=0, weights=weights_T),
    "eos": lambda h_TD, _: h_TD.sum(0) / len(h_TD),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_pooling_equals_numpy_on_each_sentence(name: str) -> None:
    random = torch.Generator().manual_seed(0)
    # All below zero: a maximum that counts padding, or starts from zero, would show.
    h_TD = -1 - torch.rand(sum(LENGTHS), 5, generator=random)
    weights_T = 1 + torch.rand(sum(LENGTHS), generator=random)
    ends = np.cumsum(LENGTHS)[:-1]
    apart = zip(np.split(h_TD.numpy(), ends), np.split(weights_T.numpy(), ends), strict=True)
    expected_BD = np.stack([BY_HAND[name](tokens_TD, weights_T) for tokens_TD, weights_T in apart])
    pooled_BD = POOLS[name](h_TD, PooledTokens(Packed.of(LENGTHS), weights_T))
    assert pooled_BD.dtype == torch.float32
    np.testing.assert_allclose(pooled_BD.numpy(), expected_BD, rtol=1e-5)


def test_every_pooling_of_the_config_is_there() -> None:
    assert (*POOLS, STATE) == POOLINGS and list(BY_HAND) == list(POOLS)


@pytest.mark.parametrize("name", ["mean", "max", "first_last", "position", "idf"])
def test_one_bad_token_shows_in_its_own_sentence_alone(name: str) -> None:
    h_TD = torch.ones(sum(LENGTHS), 2)
    h_TD[3] = float("nan")
    pooled_BD = POOLS[name](h_TD, PooledTokens(Packed.of(LENGTHS), torch.ones(sum(LENGTHS))))
    assert torch.isnan(pooled_BD).any(1).tolist() == [False, True, False, False]


def test_document_frequency_counts_sentences_as_scikit_learn_does() -> None:
    from sklearn.feature_extraction.text import TfidfTransformer

    sentences = [[0, 0, 0, 2], [2, 1], [2], [1, 2, 3]]
    counts = np.array([np.bincount(ids, minlength=5) for ids in sentences])
    weights_V = idf_weights(sentences, 5)
    np.testing.assert_allclose(weights_V.numpy(), TfidfTransformer(smooth_idf=True).fit(counts).idf_, rtol=1e-6)
    assert weights_V.min() == weights_V[2] == 1.0  # held by every sentence, and still above zero
    assert weights_V.argmax() == 4  # held by none


def test_a_text_without_tokens_counts_as_a_text() -> None:
    np.testing.assert_allclose(idf_weights([[0], []], 2).numpy(), np.log([3 / 2, 3 / 1]) + 1, rtol=1e-7)


def test_idf_without_weights() -> None:
    with pytest.raises(ValueError, match=r"^pooling by inverse document frequency needs the weights of the tokens$"):
        POOLS["idf"](torch.ones(1, 2), PooledTokens(Packed.of([1])))


def test_state_vector_has_the_size_that_is_reported() -> None:
    shape = Rwkv6Config(vocab_size=256, hidden_size=32, num_hidden_layers=2, head_size=8)
    vector_BD = read_state(torch.randn(3, 4, 8, 8), torch.randn(3, 2, 32))
    assert vector_BD.shape == (3, vector_size(STATE, shape))
    assert vector_size("mean", shape) == 32
    assert vector_size(STATE, Rwkv6Config()) == 131_072  # Finch 1B6


@pytest.mark.parametrize(("layers", "named"), [((1, 3), "final"), ((EMBEDDING,), "embedding")])
def test_only_blocks_have_a_state(layers: tuple[int, ...], named: str) -> None:
    with pytest.raises(UserError) as caught:
        check_pooling(STATE, layers, 3)
    assert str(caught.value) == (f"pooling=state with layer={named}: only blocks have a state, valid are layers 0 to 2")
    check_pooling("mean", layers, 3)
    check_pooling(STATE, (0, 2), 3)


@pytest.mark.parametrize("source", ["values", "time_mix"])
@pytest.mark.parametrize(("layers", "named"), [((1, 3), "final"), ((EMBEDDING,), "embedding")])
def test_only_blocks_have_a_time_mix(layers: tuple[int, ...], named: str, source: str) -> None:
    with pytest.raises(UserError) as caught:
        check_pooling(f"{source}:mean", layers, 3)
    assert str(caught.value) == (
        f"pooling.source={source} with layer={named}: only blocks have a time mix, valid are layers 0 to 2"
    )
    check_pooling(f"{source}:mean", (0, 2), 3)


@pytest.mark.parametrize(
    ("config", "spec", "final"),
    [
        (PoolingConfig("last"), "last", "last"),
        (PoolingConfig("last", source="values"), "values:last", "last"),
        (PoolingConfig("idf", source="time_mix"), "time_mix:idf", "idf"),
        (PoolingConfig("state"), "state", "mean"),
    ],
)
def test_name_and_source_are_one_word(config: PoolingConfig, spec: str, final: str) -> None:
    assert (config.spec, final_pooling(spec)) == (spec, final)
    assert (source_of(spec), name_of(spec)) == (config.source, config.name)
