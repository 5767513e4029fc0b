"""RWKV-4 as a run meets it: named by a config, in every precision, with its audit, its state, and at random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from rwkv_sweep.config.layer_spec import EMBEDDING
from rwkv_sweep.config.schema import ModelConfig, PrecisionConfig
from rwkv_sweep.embedding.pooling import STATE
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.loading import load_model, model_source
from rwkv_sweep.models.quantization import audit
from rwkv_sweep.models.quantization.selection import KINDS as ALL_KINDS
from rwkv_sweep.models.rwkv4.network import Rwkv4Model
from tests.rwkv4_checkpoints import Sizes, author_checkpoint, numpy_layers
from tests.small_models import CPU, FP32, encoder_of

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = Sizes(blocks=3, hidden=128, wide=256)
KINDS = set(ALL_KINDS) - {"time_mix.gate"}
SENTENCES = ["The cat sat on the mat.", "A", "A longer sentence than the first one was, with a comma."]


@pytest.fixture
def config(tmp_path: Path) -> ModelConfig:
    path = tmp_path / "author.pth"
    torch.save(author_checkpoint(SIZES), path)
    return ModelConfig(name="local", source="local", path=str(path), tokenizer="bytes")


def test_vectors_are_means_of_the_published_equations(config: ModelConfig) -> None:
    source = model_source(config)
    assert source.check() == source.shape() and len(source.fingerprints()[0]) == 16
    vectors = encoder_of(config).encode(SENTENCES, [EMBEDDING, 0, 1, 2, 3], ["mean"])["mean"]
    expected = numpy_layers(author_checkpoint(SIZES), list(SENTENCES[0].encode())).mean(1)
    torch.testing.assert_close(vectors[:, 0].double(), torch.from_numpy(expected), rtol=1e-4, atol=1e-4)


def test_the_state_is_refused_in_one_line(config: ModelConfig) -> None:
    source = model_source(config)
    source.check_use("mean", 512, FP32, source.shape())
    with pytest.raises(UserError, match=r"pooling=state with an RWKV-4, .*valid are poolings of tokens") as raised:
        source.check_use(STATE, 512, FP32, source.shape())
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("base", "quantization", "least"),
    [
        ("bfloat16", "none", 0.999),
        ("float16", "none", 0.9999),
        ("float32", "int8", 0.98),
        ("float32", "int8_dynamic", 0.98),
        ("float32", "nf4", 0.9),
        ("float16", "fp4", 0.85),
    ],
)
def test_precisions_stay_near_fp32_and_their_audit_sees_all_linear_layers(
    config: ModelConfig, base: str, quantization: str, least: float
) -> None:
    precision = PrecisionConfig(quantization, base, quantization)
    exact = encoder_of(config).encode(SENTENCES, [0, 1, 2], ["mean"])["mean"]
    encoder = encoder_of(config, precision)
    vectors = encoder.encode(SENTENCES, [0, 1, 2], ["mean"])["mean"]
    assert torch.cosine_similarity(vectors, exact, dim=-1).min() > least
    assert not torch.equal(vectors, exact)
    entries = audit(encoder.loaded.model, precision, CPU).entries
    linear = [entry for entry in entries if "." in entry.kind]
    assert {entry.kind for entry in linear} == KINDS and len(linear) == 3 * len(KINDS)
    assert all(entry.quantized == (quantization != "none") for entry in linear)
    assert {entry.kind for entry in entries} - KINDS == {"embedding", "vector"}
    assert {entry.stored for entry in entries if entry.kind == "vector"} == {"float32"}


def test_blocks_and_modules_can_be_chosen(config: ModelConfig) -> None:
    precision = PrecisionConfig("some", "float32", "int8_dynamic", blocks=[0, 2], modules=["channel_mix", "output"])
    model = load_model(config, precision, CPU).model
    quantized = {(e.block, e.kind) for e in audit(model, precision, CPU).entries if e.quantized}
    kinds = ("time_mix.output", "channel_mix.key", "channel_mix.receptance", "channel_mix.value")
    assert quantized == {(block, kind) for block in (0, 2) for kind in kinds}


def test_random_weights_of_this_generation() -> None:
    sizes: dict[str, Any] = {"hidden_size": 64, "num_blocks": 2, "head_size": 16, "intermediate_size": 96}
    config = ModelConfig(name="r", source="random", vocab_size=256, generation=4, **sizes)
    one, two = load_model(config, FP32, CPU), load_model(config, FP32, CPU)
    assert isinstance(one.model, Rwkv4Model) and not one.trained and one.fingerprint == two.fingerprint
    source = model_source(config)
    assert source.fingerprints()[0] == one.fingerprint and source.shape() == one.model.config
    assert one.model.config.intermediate_size == 96
    pairs = zip(one.model.parameters(), two.model.parameters(), strict=True)
    assert all(torch.equal(a, b) and torch.isfinite(a).all() for a, b in pairs)
    other = load_model(ModelConfig(**{**vars(config), "generation": 6}), FP32, CPU)
    assert other.fingerprint != one.fingerprint


def test_tags_say_what_runs(config: ModelConfig) -> None:
    tags = load_model(config, FP32, CPU).kernel_tags
    assert tags["wkv"] == "fused" and tags["blocks"].startswith("fused (numba")
