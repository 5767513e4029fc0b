"""The `output_hidden_states` baseline gives what streamed pooling gives, and needs memory for every layer's tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from rwkv_sweep.config.layer_spec import EMBEDDING
from rwkv_sweep.config.schema import PromptConfig
from rwkv_sweep.embedding.hidden_states_baseline import encode_tokens_naive
from rwkv_sweep.embedding.layer_encoder import RwkvEncoder
from rwkv_sweep.embedding.pooling import POOLS, STATE, idf_weights
from rwkv_sweep.models.common.end_of_text import EndOfText
from tests.small_models import encoder_of, random_config

pytestmark = pytest.mark.usefixtures("one_thread")

BLOCKS, HIDDEN = 6, 32
SENTENCES = ["The cat sat on the mat.", "A", "A rather longer sentence than the first one was.", "A dog!"]


@pytest.fixture
def encoder() -> RwkvEncoder:
    weights_V = idf_weights([list(sentence.encode()) for sentence in SENTENCES], 256)
    return encoder_of(random_config(HIDDEN, BLOCKS), max_tokens=4096, idf_V=weights_V)


@pytest.mark.parametrize("pooling", list(POOLS))
@pytest.mark.parametrize("span", ["all", "second"])
def test_naive_equals_streamed(encoder: RwkvEncoder, pooling: str, span: str) -> None:
    encoder = replace(encoder, prompt=PromptConfig("echo", "{sentence} {sentence}", span), batch_tokens=100)
    encoder = replace(encoder, loaded=replace(encoder.loaded, end_of_text=EndOfText(0)))
    tokenized, layers = encoder.tokenize(SENTENCES), [3, EMBEDDING, BLOCKS, 0]
    streamed_LSD = encoder.encode_tokens(tokenized, layers, [pooling])[pooling]
    naive_LSD = encode_tokens_naive(encoder, tokenized, layers, pooling)
    torch.testing.assert_close(naive_LSD, streamed_LSD, rtol=0, atol=0)


def test_states_are_not_of_tokens(encoder: RwkvEncoder) -> None:
    with pytest.raises(ValueError, match="reads no tokens"):
        encode_tokens_naive(encoder, encoder.tokenize(SENTENCES), [0], STATE)


def peak_bytes(work: Callable[[], object]) -> int:
    """The most that lies in the CPU allocator at once, above what lay there before, by the profiler's own events."""
    work()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    changes = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    lying = peak = 0
    for event in sorted(changes, key=lambda event: event.start_ns()):
        lying += event.nbytes()
        peak = max(peak, lying)
    return peak


@pytest.mark.parametrize("pooling", ["mean", "max", "idf"])
def test_streamed_memory_does_not_grow_with_tokens(encoder: RwkvEncoder, pooling: str) -> None:
    sentences, layers = 4, list(range(BLOCKS))

    def extra(tokens: int, naive: bool) -> int:
        """Peak of all blocks over the peak of the deepest alone."""
        tokenized = encoder.tokenize(["x" * tokens] * sentences)
        deepest = peak_bytes(lambda: encoder.encode_tokens(tokenized, layers[-1:], [pooling]))
        if naive:
            return peak_bytes(lambda: encode_tokens_naive(encoder, tokenized, layers, pooling)) - deepest
        return peak_bytes(lambda: encoder.encode_tokens(tokenized, layers, [pooling])) - deepest

    vectors = len(layers) * sentences * HIDDEN * 4
    one_layer = 300 * sentences * HIDDEN * 4  # what 300 tokens more a sentence add to one layer's output
    short, long = extra(100, naive=False), extra(400, naive=False)
    assert abs(long - short) < vectors < one_layer / 10
    assert long < 3 * vectors
    # At the peak, inside the last block, its input lies there in either way, and its output in none yet.
    assert extra(400, naive=True) - extra(100, naive=True) >= (len(layers) - 2) * one_layer
