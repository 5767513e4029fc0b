"""From sentences to pooled vectors: what must not matter (order, batches, company), what is reported (cuts, NaN)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rwkv_sweep.config.layer_spec import EMBEDDING
from rwkv_sweep.config.schema import POOLINGS, PromptConfig
from rwkv_sweep.embedding.layer_encoder import RwkvEncoder, batches
from rwkv_sweep.embedding.pooling import EOS, POOLS, STATE, PooledTokens, idf_weights
from rwkv_sweep.errors import NonFiniteError, UserError
from rwkv_sweep.models.common.end_of_text import EndOfText
from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.wkv6 import wkv6_reference
from tests.small_models import BARE, encoder_of, random_config

pytestmark = pytest.mark.usefixtures("one_thread")

SENTENCES = [
    "The cat sat on the mat.",
    "A",
    "Ünïcödé, 1234 and a rather longer sentence than the first one was.",
    "A dog!",
    "The cat sat on the mat",
]
ECHO = PromptConfig("echo", "Say: {sentence} Again: {sentence} Done.", "second")


def mean(encoder: RwkvEncoder, sentences: list[str], layers: Sequence[int]) -> torch.Tensor:
    """[layers, sentences, D]"""
    return encoder.encode(sentences, layers, ["mean"])["mean"]


@pytest.fixture
def encoder() -> RwkvEncoder:
    weights_V = idf_weights([list(sentence.encode()) for sentence in SENTENCES], 256)
    return encoder_of(random_config(), idf_V=weights_V)


def outputs_of(encoder: RwkvEncoder, text: str, layers: tuple[int, ...]) -> dict[int, torch.Tensor]:
    """Each layer's output [T, D] of one text alone."""
    ids = list(text.encode())
    outputs: dict[int, torch.Tensor] = {}
    with torch.inference_mode():
        encoder.loaded.model(torch.tensor(ids), Packed.of([len(ids)]), layers, outputs.__setitem__)
    return outputs


def test_vectors_are_the_models_outputs_pooled(encoder: RwkvEncoder) -> None:
    layers = (2, EMBEDDING, 3)
    vectors_LSD = encoder.encode(SENTENCES, layers, ["mean"])["mean"]
    assert vectors_LSD.shape == (3, 5, 32) and vectors_LSD.dtype == torch.float32
    outputs = outputs_of(encoder, SENTENCES[2], layers)
    for place, layer in enumerate(layers):
        expected_D = outputs[layer].numpy().mean(0)
        np.testing.assert_allclose(vectors_LSD[place, 2].numpy(), expected_D, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pooling", [name for name in POOLS if name != EOS])
def test_only_the_span_is_pooled(encoder: RwkvEncoder, pooling: str) -> None:
    vectors_LSD = replace(encoder, prompt=ECHO).encode(SENTENCES, (1, 3), [pooling])[pooling]
    for row, sentence in enumerate(SENTENCES):
        text = ECHO.template.format(sentence=sentence)
        start = len(f"Say: {sentence} Again: ".encode())
        end = start + len(sentence.encode())
        assert encoder.idf_V is not None
        weights_T = encoder.idf_V[list(sentence.encode())]
        for place, h_TD in enumerate(outputs_of(encoder, text, (1, 3)).values()):
            alone_BD = POOLS[pooling](h_TD[start:end], PooledTokens(Packed.of([end - start]), weights_T))
            torch.testing.assert_close(vectors_LSD[place, row], alone_BD[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prompt", [BARE, ECHO], ids=["bare", "echo"])
@pytest.mark.parametrize("batch_tokens", [1, 30, 150, 4096])
def test_order_batch_size_and_other_poolings_do_not_matter(
    encoder: RwkvEncoder, prompt: PromptConfig, batch_tokens: int
) -> None:
    encoder = replace(encoder, prompt=prompt, loaded=replace(encoder.loaded, end_of_text=EndOfText(0)))
    shuffled = [3, 0, 4, 2, 1]
    sentences = [SENTENCES[index] for index in shuffled]
    together = replace(encoder, batch_tokens=batch_tokens).encode(sentences, [2, 0, 1], POOLINGS)
    for pooling in POOLINGS:
        expected_LSD = encoder.encode(SENTENCES, [0, 1, 2], [pooling])[pooling]
        torch.testing.assert_close(together[pooling], expected_LSD[[2, 0, 1]][:, shuffled], rtol=1e-5, atol=1e-5)
        # Else the comparison would show nothing.
        assert (expected_LSD[:, 0] - expected_LSD[:, 4]).abs().max() > 1e-4


def test_all_poolings_come_from_one_forward(encoder: RwkvEncoder) -> None:
    ran: list[int] = []
    encoder.loaded.model.register_forward_hook(lambda *_: ran.append(1))
    encoder = replace(encoder, loaded=replace(encoder.loaded, end_of_text=EndOfText(0)))
    encoder.encode(SENTENCES, [0, 2], POOLINGS)
    assert ran == [1]


@pytest.mark.parametrize("length", [1, 2, 21])
def test_state_equals_the_reference(encoder: RwkvEncoder, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = [SENTENCES[2].encode()[:length].decode(errors="replace"), "A dog!"]
    actual_LSD = encoder.encode(sentences, [0, 1, 2], [STATE])[STATE]
    ran: list[int] = []

    def reference(*inputs: Any) -> Any:
        ran.append(1)
        return wkv6_reference(*inputs[:6])

    monkeypatch.setattr("rwkv_sweep.models.common.forward_choice.why_not", lambda *_: "compared with")
    monkeypatch.setattr("rwkv_sweep.models.rwkv6.blocks.wkv6_chunked", reference)
    for row, sentence in enumerate(sentences):
        states = states_of(encoder, sentence)
        for layer, (wkv_HKV, _) in states.items():
            torch.testing.assert_close(actual_LSD[layer, row], wkv_HKV.flatten(), rtol=1e-4, atol=1e-5)
    assert len(ran) == len(sentences) * 3


def test_shift_states_are_what_the_last_token_hands_on(encoder: RwkvEncoder) -> None:
    states, block = states_of(encoder, "A dog!"), encoder.loaded.model.blocks[1]
    before_TD = outputs_of(encoder, "A dog!", (0,))[0]
    torch.testing.assert_close(states[1][1][0], block.ln1(before_TD)[-1])
    seen: list[torch.Tensor] = []
    block.ln2.register_forward_hook(lambda _, __, x_TD: seen.append(x_TD[-1]))
    torch.testing.assert_close(states_of(encoder, "A dog!")[1][1][1], seen[0])


def test_asking_for_states_changes_no_output(encoder: RwkvEncoder) -> None:
    alone = encoder.encode(SENTENCES, [0, 1, 2], ["mean"])["mean"]
    both = encoder.encode(SENTENCES, [0, 1, 2], ["mean", STATE])["mean"]
    torch.testing.assert_close(both, alone, rtol=0, atol=0)


def states_of(encoder: RwkvEncoder, text: str) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """WKV state [H, K, V] and shift states [2, D] of every block after one text alone."""
    ids = list(text.encode())
    states: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    with torch.inference_mode():
        encoder.loaded.model(
            torch.tensor(ids),
            Packed.of([len(ids)]),
            (EMBEDDING, 0, 1, 2, 3),
            lambda *_: None,
            lambda layer, wkv_BHKV, shift_B2D: states.update({layer: (wkv_BHKV[0], shift_B2D[0])}),
        )
    assert list(states) == [0, 1, 2]  # neither of the embedding nor of the final norm
    return states


def test_truncation_is_counted_and_cuts_the_end(encoder: RwkvEncoder) -> None:
    short = replace(encoder, max_tokens=6)
    tokenized = short.tokenize(SENTENCES)
    assert tokenized.truncated == 3
    assert [len(ids) for ids in tokenized.ids] == [6, 1, 6, 6, 6] and tokenized.tokens == 25
    assert tokenized.ids[0] == list(b"The ca")
    torch.testing.assert_close(mean(short, ["A dog! It barks."], [2]), mean(encoder, ["A dog!"], [2]))
    assert encoder.tokenize(SENTENCES).truncated == 0


def test_sentence_without_tokens(encoder: RwkvEncoder) -> None:
    with pytest.raises(UserError) as caught:
        mean(encoder, ["fine", ""], [1])
    assert str(caught.value) == "sentence '' has no tokens in tokenizer bytes"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_are_not_finite_name_the_first_layer(encoder: RwkvEncoder, bad: float) -> None:
    encoder.loaded.model.get_parameter("blocks.1.ln1.bias").data[0] = bad
    assert torch.isfinite(mean(encoder, SENTENCES, [0])).all()
    with pytest.raises(NonFiniteError) as caught:
        mean(encoder, SENTENCES, [EMBEDDING, 0, 1, 3])
    assert str(caught.value) == (
        f"layer 1 of model small, pooled by mean, gives NaN or infinity for 5 of 5 sentences, first {SENTENCES[0]!r}"
    )
    with pytest.raises(NonFiniteError, match="layer final of model small"):
        mean(encoder, SENTENCES, [3])


def test_one_bad_token_is_traced_to_its_sentences(encoder: RwkvEncoder) -> None:
    encoder.loaded.model.embeddings.weight.data[ord("!")] = float("nan")
    with pytest.raises(
        NonFiniteError, match=r"layer embedding of model small, .* for 1 of 5 sentences, first 'A dog!'"
    ):
        mean(encoder, SENTENCES, [EMBEDDING])


def test_idf_needs_its_weights(encoder: RwkvEncoder) -> None:
    with pytest.raises(ValueError, match="needs the encoder's idf_V"):
        replace(encoder, idf_V=None).encode(SENTENCES, [0], ["mean", "idf"])


def test_no_sentences_give_empty_vectors(encoder: RwkvEncoder) -> None:
    actual = encoder.encode([], [0, 1], ["mean", STATE])
    assert actual["mean"].shape == (2, 0, 32) and actual[STATE].shape == (2, 0, 4 * 8 * 8)


def test_progress_counts_every_sentence_once(encoder: RwkvEncoder) -> None:
    counts: list[int] = []
    replace(encoder, batch_tokens=30).encode(SENTENCES, [0], ["mean"], counts.append)
    assert counts == [1, 1, 3]


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 120))
def test_batches_hold_every_sentence_once_and_fit(lengths: list[int], batch_tokens: int) -> None:
    actual = batches(lengths, batch_tokens)
    assert sorted(index for batch in actual for index in batch) == list(range(len(lengths)))
    for batch in actual:
        assert len(batch) == 1 or sum(lengths[index] for index in batch) <= batch_tokens
    flat = [lengths[index] for batch in actual for index in batch]
    assert flat == sorted(lengths, reverse=True)
    # No batch is closed while the next sentence would still fit.
    for batch, following in itertools.pairwise(actual):
        assert sum(lengths[index] for index in batch) + lengths[following[0]] > batch_tokens


def test_batches_by_hand() -> None:
    assert batches([3, 9, 2, 4], 7) == [[1], [3, 0], [2]]
    assert batches([], 7) == []
