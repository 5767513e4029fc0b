"""Parity with fp32 from made-up vectors, and an fp32 reference that is loaded only when it must be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from rwkv_sweep.config.schema import PrecisionConfig
from rwkv_sweep.embedding import fp32_reference
from rwkv_sweep.embedding.fp32_reference import ReferenceEncoder, is_reference, why_no_reference
from rwkv_sweep.errors import NonFiniteError
from rwkv_sweep.evaluation.parity import Embedded, parity_metrics
from tests.small_models import CPU, FP32, TINY, encoder_of, small_model


def embedded(noise: float) -> Embedded:
    random = np.random.default_rng(0)
    layers_LSD = random.normal(size=(2, 40, 8))
    layers_LSD[1] += noise * np.random.default_rng(1).normal(size=(40, 8))
    return Embedded(layers_LSD, layers_LSD[1], (layers_LSD[1, :20] * layers_LSD[1, 20:]).sum(-1))


def test_metrics() -> None:
    labels = np.arange(20) % 2
    ours, exact = embedded(0.5), embedded(0.0)
    metrics = parity_metrics(ours, exact, labels, [5, 12], 12, 200, 0)
    assert metrics["parity/layer/5/cosine_mean"] == pytest.approx(1.0)
    assert metrics["parity/cosine_mean"] == metrics["parity/layer/final/cosine_mean"] < 0.99
    assert metrics["parity/cosine_p01"] < metrics["parity/cosine_mean"]
    assert metrics["parity/rank_agreement"] == pytest.approx(spearmanr(ours.scores_P, exact.scores_P).statistic)
    expected = spearmanr(ours.scores_P, labels).statistic - spearmanr(exact.scores_P, labels).statistic
    assert metrics["parity/spearman_delta"] == pytest.approx(expected)
    assert metrics["parity/spearman_delta_lo"] <= expected <= metrics["parity/spearman_delta_hi"]


def test_random_weights_have_no_spearman() -> None:
    metrics = parity_metrics(embedded(0.5), embedded(0.0), None, [5, 12], 12, 200, 0)
    assert "parity/cosine_mean" in metrics and not any("spearman" in name for name in metrics)


def test_what_is_not_finite_fails() -> None:
    bad = embedded(0.5)
    bad.sentences_SD[3, 2] = np.nan
    with pytest.raises(NonFiniteError):
        parity_metrics(bad, embedded(0.0), None, [5, 12], 12, 200, 0)


def test_the_reference_is_fp32_and_its_key_needs_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, exactly = (
        encoder_of(TINY, precision, max_tokens=64, batch_tokens=512)
        for precision in (PrecisionConfig("bf16", "bfloat16"), FP32)
    )
    fp32 = exactly.loaded
    reference = ReferenceEncoder.beside(encoder, TINY)
    assert reference.loaded.kernel_tags == fp32.kernel_tags and reference.loaded.fingerprint == fp32.fingerprint
    sentences = ["A cat sleeps.", "Prices rose in May."]
    ours = reference.encode(sentences, [3, 12], ["mean"])["mean"]
    exact = exactly.encode(sentences, [3, 12], ["mean"])["mean"]
    assert torch.equal(ours, exact)
    assert not torch.equal(ours, encoder.encode(sentences, [3, 12], ["mean"])["mean"])


def test_a_reference_too_large_for_memory_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    small = small_model(num_blocks=2)
    assert why_no_reference(small, CPU) is None
    monkeypatch.setattr(fp32_reference.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000})())
    assert "fp32 weights of 0.0 GiB do not fit" in (why_no_reference(small, CPU) or "")


def test_is_reference() -> None:
    assert is_reference(PrecisionConfig("mine", "float32"))
    assert not is_reference(PrecisionConfig("fp32", "float32", "nf4"))
    assert not is_reference(PrecisionConfig("bf16", "bfloat16"))
