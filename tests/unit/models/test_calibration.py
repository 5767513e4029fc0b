"""int4 by HQQ and GPTQ: each lowers what it minimizes, GPTQ as trying all codes shows; what is scored is not read."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from rwkv_sweep.api import Encoder
from rwkv_sweep.config.schema import DatasetConfig, PrecisionConfig
from rwkv_sweep.data.corpus import calibration_corpus
from rwkv_sweep.data.splits import load_splits
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.quantization import WeightOnlyLinear, apply_precision, check_precision
from rwkv_sweep.models.quantization.calibration import observed
from rwkv_sweep.models.quantization.calibration.gptq import gptq_codes, output_error
from rwkv_sweep.models.quantization.calibration.hqq import hqq_codes, objective
from rwkv_sweep.models.quantization.calibration.observed import token_batches
from rwkv_sweep.ops.common.groupwise import GROUP, GroupCodes, dequantize_codes, padded, quantize_int4
from tests.small_models import CPU, all_outputs, small_model

pytestmark = pytest.mark.usefixtures("one_thread")

GPTQ = PrecisionConfig("int4_gptq", "float32", "int4", calibration="gptq")


def heavy_tailed(rows: int, width: int, seed: int = 0) -> Tensor:
    generator = np.random.default_rng(seed)
    return torch.from_numpy(generator.standard_t(3, (rows, width))).float()


def inputs(tokens: int, width: int) -> Tensor:
    """Correlated inputs with one huge column, as block 0's output projection reads, and half of them squared ReLUs."""
    generator = torch.Generator().manual_seed(width)
    x_TK = torch.randn(tokens, width, generator=generator) @ torch.randn(width, width, generator=generator)
    x_TK[:, 1] *= 100
    x_TK[:, ::2] = torch.relu(x_TK[:, ::2]) ** 2 / width
    return x_TK


@pytest.mark.parametrize("shape", [(5, 64), (3, 200), (16, 7)])
def test_hqq_lowers_its_objective_in_every_group_or_leaves_it(shape: tuple[int, int]) -> None:
    weight_NK = heavy_tailed(*shape)
    weight_NK[0] = 0
    plain, fitted = (objective(padded(weight_NK), codes) for codes in (quantize_int4(weight_NK), hqq_codes(weight_NK)))
    assert (fitted <= plain).all() and fitted.sum() < 0.99 * plain.sum()
    codes = hqq_codes(weight_NK)
    restored = dequantize_codes(codes)[:, : shape[1]]
    expected = ((weight_NK - restored).abs() ** 0.7).sum()
    if shape[1] % GROUP == 0:
        torch.testing.assert_close(fitted.sum(), expected)
    assert codes.q_NW.max() <= 15 and (restored[0] == 0).all()


@pytest.mark.parametrize("width", [64, 100, 200])
def test_gptq_changes_outputs_less_than_rounding(width: int) -> None:
    weight_NK, x_TK = heavy_tailed(12, width), inputs(300, width)
    hessian_KK = x_TK.T @ x_TK
    codes = gptq_codes(weight_NK, hessian_KK)
    errors = {}
    for name, tried in (("plain", quantize_int4(weight_NK)), ("gptq", codes)):
        change_NK = (dequantize_codes(tried)[:, :width] - weight_NK).double().numpy()
        errors[name] = float(((x_TK.double().numpy() @ change_NK.T) ** 2).sum())  # the definition
        assert output_error(weight_NK, tried, hessian_KK) == pytest.approx(errors[name], rel=1e-3)
    assert errors["gptq"] < 0.5 * errors["plain"] and codes.q_NW.max() <= 15


def test_gptq_is_between_rounding_and_the_best_of_all_codes() -> None:
    """Four weights: all 16^4 codes are tried, at GPTQ's own scales and zeros."""
    x_TK = inputs(50, 4)
    hessian_KK = x_TK.T @ x_TK
    for seed in range(5):
        weight_NK = heavy_tailed(1, 4, seed)
        codes = gptq_codes(weight_NK, hessian_KK)
        scale, zero = float(codes.scale_NG), float(codes.zero_NG)
        tried = (np.array(list(itertools.product(range(16), repeat=4))) - zero) * scale - weight_NK.numpy()
        best = ((tried @ x_TK.numpy().astype(float).T) ** 2).sum(1).min()
        nearest = (weight_NK / scale + zero).round().clamp(0, 15).to(torch.uint8)
        rounded = GroupCodes(padded(nearest), codes.scale_NG, codes.zero_NG)
        actual = output_error(weight_NK, codes, hessian_KK)
        assert best * 0.999 <= actual <= output_error(weight_NK, rounded, hessian_KK) * 1.001


def test_weights_whose_inputs_were_always_zero_are_rounded_as_they_are() -> None:
    weight_NK, x_TK = heavy_tailed(6, 64), inputs(80, 64)
    x_TK[:, 10:20] = 0
    codes = gptq_codes(weight_NK, x_TK.T @ x_TK)
    restored = dequantize_codes(codes)
    step_NK = codes.scale_NG.float().expand(-1, 64)
    low, high = (0 - codes.zero_NG.float()) * codes.scale_NG, (15 - codes.zero_NG.float()) * codes.scale_NG
    inside = weight_NK.clamp(low, high)  # a range may have been narrowed
    assert ((restored - inside).abs() <= 0.51 * step_NK)[:, 10:20].all()
    nothing = gptq_codes(weight_NK, torch.zeros(64, 64))
    assert torch.isfinite(dequantize_codes(nothing)).all()


def ids(count: int = 60, length: int = 20) -> list[list[int]]:
    return np.random.default_rng(1).integers(0, 256, (count, length)).tolist()


@pytest.mark.parametrize("together", [True, False])
def test_a_calibrated_model_is_nearer_to_fp32(together: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its blocks calibrated all at a time, and one after another."""
    if not together:
        monkeypatch.setattr(observed, "HESSIAN_BYTES", 0)
    exact = all_outputs(small_model())
    cosines = {}
    for name, batches in (("plain", None), ("gptq", token_batches(ids(), CPU))):
        model = small_model()
        apply_precision(model, PrecisionConfig("int4", "float32", "int4", blocks="first2"), CPU, batches)
        kinds = [type(module) for module in model.modules() if type(module).__name__ == "ObservedLinear"]
        assert kinds == [] and sum(isinstance(module, WeightOnlyLinear) for module in model.modules()) == 2 * 8
        cosines[name] = float(torch.cosine_similarity(all_outputs(model), exact, dim=-1).mean())
    assert 1 - cosines["gptq"] < 0.9 * (1 - cosines["plain"])


def test_token_batches_hold_the_first_tokens_of_sentences_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observed, "TOKENS", 100)
    monkeypatch.setattr(observed, "BATCH_TOKENS", 45)
    monkeypatch.setattr(observed, "LONGEST", 30)
    sentences = [list(range(n, n + length)) for n, length in enumerate((20, 0, 20, 50, 10, 90, 5))]
    batches = token_batches(sentences, CPU)
    kept = [sentences[0], sentences[2], sentences[3][:30], sentences[4], sentences[6]]
    assert [list(packed.lengths) for _, packed in batches] == [[20, 20], [30, 10, 5]]
    assert torch.cat([ids_T for ids_T, _ in batches]).tolist() == [token for ids in kept for token in ids]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quantization": "nf4", "calibration": "hqq"}, r"calibration=hqq with precision\.quantization=nf4"),
        ({"quantization": "int4", "calibration": "best"}, r"precision\.calibration=best is not known"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_precision(PrecisionConfig("some", "bfloat16", **options), CPU)  # type: ignore[arg-type]


def dataset(tmp_path: Path) -> DatasetConfig:
    (tmp_path / "train.tsv").write_text("sentence1\tsentence2\tlabel\na b\tc d\t1\ne f\tg h\t0\n")
    (tmp_path / "validation.tsv").write_text("sentence1\tsentence2\tlabel\na b\tx y\t1\nz\tw\t0\n")
    return DatasetConfig("pairs", "file", str(tmp_path), splits=["validation"])


def test_what_is_scored_is_never_read(tmp_path: Path) -> None:
    config = dataset(tmp_path)
    splits = load_splits(config)
    corpus = calibration_corpus(
        PrecisionConfig("g", "bfloat16", "int4", "all", "all", False, "gptq", "train"), config, splits
    )
    assert corpus is not None and sorted(corpus.texts) == ["c d", "e f", "g h"]
    assert corpus.name == "train without the 1 sentences that are scored too"
    for fit, message in (
        ("validation", "has no sentence that is not scored too"),
        (None, "calibration_fit=null: valid"),
    ):
        precision = PrecisionConfig("g", "bfloat16", "int4", calibration="gptq", calibration_fit=fit)
        with pytest.raises(UserError, match=message):
            calibration_corpus(precision, config, splits)
    assert calibration_corpus(PrecisionConfig("int4", "bfloat16", "int4"), config, splits) is None
    own = calibration_corpus(replace(GPTQ, calibration_fit=None), replace(config, fit="train"), splits)
    assert own is not None and own.fingerprint == corpus.fingerprint


def test_an_encoder_takes_given_texts_or_a_split_and_not_both() -> None:
    texts = ["A cat sleeps on the mat.", "Prices rose by 3 percent in May."]
    first_block = ["precision=int4_gptq", "precision.blocks=0", "layer=0"]
    encoder = Encoder.from_config(*first_block, corpus=texts)
    assert encoder.encode(texts).shape == (2, 256)
    with pytest.raises(UserError, match=r"calibration_fit=all\[:5\] and the argument corpus"):
        Encoder.from_config("precision=int4_gptq", 'precision.calibration_fit="all[:5]"', corpus=texts)
    with pytest.raises(UserError, match="calibration_fit=null"):
        Encoder.from_config("precision=int4_gptq", "dataset=embedded_hard")
