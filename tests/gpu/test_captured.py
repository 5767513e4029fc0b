"""Single pairs by CUDA graphs against the same pairs run eagerly."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from rwkv_sweep.config.schema import AggregationConfig, PrecisionConfig, PromptConfig
from rwkv_sweep.embedding.cuda_graphs import SIZES
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.layer_encoder import RwkvEncoder
from rwkv_sweep.embedding.pooling import POOLS, STATE, idf_weights
from rwkv_sweep.embedding.postprocessing import Postprocess
from rwkv_sweep.models.common.end_of_text import EndOfText
from tests.gpu.device import GPU
from tests.small_models import encoder_of, random_config

pytestmark = pytest.mark.gpu

PAIRS = [
    ("The cat sat on the mat.", "A cat is sitting on a mat."),
    ("a", "b"),
    ("A rather longer sentence, so that the pair needs another graph than the first." * 2, "And a short one."),
    ("Back to the first size.", "With other words in it."),
]
DEVICE = GPU
NONE, MEAN = AggregationConfig(name="none"), AggregationConfig(name="mean")


def encoder_on_gpu(base: str = "float32", **prompt: str) -> RwkvEncoder:
    config, precision = random_config(128, 3, 32, 448), PrecisionConfig(base, base)
    idf_V = idf_weights([list(text.encode()) for pair in PAIRS for text in pair], 256)
    encoder = encoder_of(config, precision, DEVICE, PromptConfig(name="test", **prompt), 4096, 16384, idf_V)
    return replace(encoder, loaded=replace(encoder.loaded, end_of_text=EndOfText(0)))


def eager(embedder: Embedder, pair: tuple[str, str]) -> float:
    one, other = embedder.embed_tokens(embedder.encoder.tokenize(pair))
    return float(torch.nn.functional.cosine_similarity(one, other, dim=0))


def assert_same(embedder: Embedder, tolerance: float = 1e-5) -> None:
    scores = [embedder.score_pair(*pair) for pair in PAIRS]
    assert embedder.pair_path == "CUDA graph"
    assert scores == pytest.approx([eager(embedder, pair) for pair in PAIRS], abs=tolerance)
    assert len(set(scores)) == len(scores)


@pytest.mark.parametrize("pooling", [*POOLS, STATE])
def test_every_pooling_equals_eager(pooling: str) -> None:
    assert_same(Embedder(encoder_on_gpu(), [1], pooling, NONE))


def test_several_end_of_text_tokens_equal_eager() -> None:
    encoder = encoder_on_gpu()
    several = replace(encoder, loaded=replace(encoder.loaded, end_of_text=EndOfText(0, 3, 16)))
    assert_same(Embedder(several, [1], "eos", NONE))


@pytest.mark.parametrize("base", ["bfloat16", "float16"])
def test_16_bit_precisions_equal_eager(base: str) -> None:
    assert_same(Embedder(encoder_on_gpu(base), [3], "mean", NONE), tolerance=2e-3)


@pytest.mark.parametrize("keep_layers", [False, True])
@pytest.mark.parametrize("name", ["mean", "concat", "max", "weighted"])
def test_aggregations_equal_eager(name: str, keep_layers: bool) -> None:
    aggregation = AggregationConfig(name=name, weights="linear", normalize="unit")
    assert_same(Embedder(encoder_on_gpu(), [-1, 0, 1, 2, 3], "mean", aggregation, keep_layers=keep_layers))


@pytest.mark.parametrize("pooling", ["mean", "idf", "first_last", "position", "eos"])
def test_a_prompt_of_which_a_part_is_pooled_equals_eager(pooling: str) -> None:
    encoder = encoder_on_gpu(template="{sentence} once more: {sentence}", span="second")
    assert_same(Embedder(encoder, [2], pooling, NONE))


def test_post_processing_is_applied_outside_the_graph() -> None:
    plain = Embedder(encoder_on_gpu(), [2], "mean", NONE)
    random = np.random.default_rng(0)
    post = Postprocess(mean_D=0.1 * random.standard_normal(128), whitening_DR=random.standard_normal((128, 20)))
    embedder = replace(plain, postprocess=post)
    assert_same(embedder)
    assert embedder.score_pair(*PAIRS[0]) != pytest.approx(plain.score_pair(*PAIRS[0]), abs=1e-3)


def test_prepared_sizes_are_not_captured_again() -> None:
    embedder = Embedder(encoder_on_gpu(), [2], "mean", NONE)
    embedder.prepare_pairs(PAIRS)
    assert embedder._captured is not None
    graphs = dict(embedder._captured._graphs)
    assert 1 < len(graphs) <= len(PAIRS)
    for pair in PAIRS:
        embedder.score_pair(*pair)
    assert embedder._captured._graphs == graphs


def test_a_pair_longer_than_all_sizes_runs_eagerly() -> None:
    embedder = Embedder(encoder_on_gpu(), [2], "mean", NONE)
    pair = ("a" * SIZES[-1], "b")
    assert embedder.score_pair(*pair) == pytest.approx(eager(embedder, pair), abs=1e-6)
    assert embedder.pair_path == "CUDA graph"


def test_graphs_go_with_their_embedder_and_not_with_the_garbage_collector() -> None:
    """A graph that is freed while another is captured ends the process."""
    encoder = encoder_on_gpu()
    gc.collect()
    gc.disable()
    try:
        embedder = Embedder(encoder, [2], "mean", NONE)
        embedder.score_pair(*PAIRS[0])
        graphs = weakref.ref(embedder._captured)
        del embedder
        assert graphs() is None
    finally:
        gc.enable()


class Reading(nn.Module):
    """Stands for a layer that looks at numbers on the CPU, as LLM.int8 does for its outliers."""

    def __init__(self, linear: nn.Module) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) if float(x.abs().max()) >= 0 else x


def test_a_layer_that_cannot_be_captured_makes_pairs_eager_and_says_why() -> None:
    embedder = Embedder(encoder_on_gpu(), [2], "mean", NONE)
    attention = embedder.encoder.loaded.model.blocks[1].attention
    attention.output = Reading(attention.output)
    scores = [embedder.score_pair(*pair) for pair in PAIRS]
    assert embedder.pair_path.startswith("eager (") and "captur" in embedder.pair_path
    assert scores == pytest.approx([eager(embedder, pair) for pair in PAIRS], abs=1e-6)
    # The device is still in order, and other models still capture.
    assert_same(Embedder(encoder_on_gpu(), [2], "mean", NONE))


def test_means_of_all_layers_equal_the_means_of_their_tokens() -> None:
    """In batches above and below the size from which the network hands over sums of spans."""
    encoder = encoder_on_gpu()
    layers = [-1, 0, 1, 2, 3]
    for count in (3, 120):
        tokenized = encoder.tokenize([text for pair in PAIRS for text in pair] * count)
        batch = encoder.batch(tokenized, range(len(tokenized.ids)), ["mean"])
        tokens: dict[int, Tensor] = {}
        with torch.inference_mode():
            actual = encoder.encode_batch(batch, layers, ["mean"])["mean"]
            encoder.loaded.model(batch.ids_T, batch.packed, layers, tokens.__setitem__)
        for layer in layers:
            parts = tokens[layer].double().split(list(batch.packed.lengths))
            expected_BD = torch.stack([part.mean(0) for part in parts])
            torch.testing.assert_close(actual[layer].double(), expected_BD, rtol=1e-5, atol=1e-5)
