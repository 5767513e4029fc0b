"""The representation pass of a run against formulas on the run's own vectors."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics.pairwise import cosine_similarity

from rwkv_sweep.config.schema import AggregationConfig
from rwkv_sweep.data.splits import PairSplit
from rwkv_sweep.data.text_column import Texts
from rwkv_sweep.embedding.cache import EmbeddingStore
from rwkv_sweep.embedding.cached_encoder import VectorSource
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.postprocessing import fit
from rwkv_sweep.evaluation import representation_pass
from rwkv_sweep.evaluation.representation import geometry, views
from rwkv_sweep.evaluation.representation.cka import linear_cka
from rwkv_sweep.evaluation.representation.entropy import matrix_entropy
from rwkv_sweep.evaluation.representation.word_dropout import two_views
from rwkv_sweep.evaluation.representation_pass import Figures, measure_representation, read_token_statistics
from tests.small_models import FP32, encoder_of, random_config

NAMES = {
    *("entropy", "effective_rank", "prompt_entropy", "anisotropy", "uniformity", "alignment", "curvature"),
    *("intrinsic_dimension", "infonce", "dime", "lidar"),
}
FIRST = ["the cat sat", "a dog ran off", "the cat sat", "rain fell in May", "so it goes on", "no one knew of it"]
SECOND = ["a cat sat down", "dogs run", "prices rose", "May was wet", "and on it goes", "all knew"]
SPLIT = PairSplit("all", Texts.of(FIRST), Texts.of(SECOND), np.array([1.0, 1, 0, 1, 0, 0]), "")


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder(encoder_of(random_config()), [1], "mean", AggregationConfig("none", "none"))


@pytest.fixture
def source(embedder: Embedder, tmp_path: Path) -> VectorSource:
    return VectorSource(embedder.encoder, FP32, ["mean"], EmbeddingStore(tmp_path / "store", 1.0))


def measured(embedder: Embedder, source: VectorSource, folder: Path, seed: int = 3) -> Figures:
    tokens_S3 = read_token_statistics(source, embedder, SPLIT)
    return measure_representation(embedder, source, SPLIT, tokens_S3, seed, folder)


def test_every_metric_is_of_the_runs_own_vectors(embedder: Embedder, source: VectorSource, tmp_path: Path) -> None:
    metrics, notes = measured(embedder, source, tmp_path)
    assert set(metrics) == {f"representation/{name}" for name in NAMES}
    assert notes == {"representation.cka": "cka.csv, 12 sentences"}
    encode = embedder.encoder.encode
    vectors_SD = encode(FIRST + SECOND, [1], ["mean"])["mean"][0].double().numpy()
    first, second = two_views(FIRST + SECOND, 3)
    both = views.normalized_views(*(encode(view, [1], ["mean"])["mean"][0].numpy() for view in (first, second)))
    statistics_S3 = encode(FIRST + SECOND, [1], ["token_statistics"])["token_statistics"][0].double().numpy()
    expected = {
        "entropy": matrix_entropy(vectors_SD),
        "effective_rank": np.exp(matrix_entropy(vectors_SD)),
        "prompt_entropy": statistics_S3[:, 0].mean(),
        "curvature": (statistics_S3[:, 1] / statistics_S3[:, 2]).mean(),
        "anisotropy": (cosine_similarity(vectors_SD).sum() - 12) / (12 * 11),
        "uniformity": geometry.uniformity(vectors_SD),
        "alignment": 2 - 2 * np.mean([cosine_similarity(vectors_SD)[row, row + 6] for row in (0, 1, 3)]),
        "intrinsic_dimension": geometry.intrinsic_dimension(vectors_SD),
        "infonce": views.infonce(*both),
        "dime": views.dime(*both, 3),
        "lidar": views.lidar(*both),
    }
    for name, value in expected.items():
        assert metrics[f"representation/{name}"] == pytest.approx(value, rel=1e-4, abs=1e-5), name


def test_vectors_are_those_that_are_scored(embedder: Embedder, source: VectorSource, tmp_path: Path) -> None:
    """Post-processed: the mean cosine of centred vectors is about zero."""
    vectors_SD = source.of(SPLIT.sentences, "mean", [1])[0].numpy()
    centred = dataclasses.replace(embedder, postprocess=fit("center", vectors_SD))
    assert measured(embedder, source, tmp_path)[0]["representation/anisotropy"] > 0.3
    assert measured(centred, source, tmp_path)[0]["representation/anisotropy"] < 0.1


def test_the_file_of_cka(embedder: Embedder, source: VectorSource, tmp_path: Path) -> None:
    measured(embedder, source, tmp_path)
    with (tmp_path / "cka.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    names = ["embedding", "0", "1", "2", "final"]
    assert header == ["layer", *names] and [row[0] for row in rows] == names
    vectors_LSD = embedder.encoder.encode(FIRST + SECOND, [-1, 0, 1, 2, 3], ["mean"])["mean"].numpy()
    expected_LL = linear_cka(list(vectors_LSD))
    np.testing.assert_allclose([[float(cell) for cell in row[1:]] for row in rows], expected_LL, rtol=1e-4)


def test_one_forward_for_the_sentences_and_one_for_each_view(
    embedder: Embedder, source: VectorSource, tmp_path: Path
) -> None:
    measured(embedder, source, tmp_path)
    assert source.forwards == 3
    measured(dataclasses.replace(embedder, layers=[2]), source, tmp_path)
    assert source.forwards == 3


def test_a_run_of_several_layers_has_no_metrics_of_tokens(
    embedder: Embedder, source: VectorSource, tmp_path: Path
) -> None:
    several = dataclasses.replace(embedder, layers=[0, 1], aggregation=AggregationConfig("mean"))
    metrics, notes = measured(several, source, tmp_path)
    missing = {"prompt_entropy", "curvature"}
    assert set(metrics) == {f"representation/{name}" for name in NAMES - missing}
    assert "this run has several" in notes["note.representation/tokens"]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("MOST_SENTENCES", "MOST_VIEWS", "MOST_CKA"):
        monkeypatch.setattr(representation_pass, name, 5)
    return


@pytest.mark.usefixtures("few")
def test_of_many_sentences_some_are_drawn(embedder: Embedder, source: VectorSource, tmp_path: Path) -> None:
    metrics, notes = measured(embedder, source, tmp_path)
    assert notes["representation.cka"] == "cka.csv, 5 sentences"
    drawn = np.sort(np.random.default_rng(3).permutation(12)[:5])
    vectors_SD = source.of(SPLIT.sentences, "mean", [1])[0].double().numpy()
    assert metrics["representation/entropy"] == pytest.approx(matrix_entropy(vectors_SD[drawn]))
    assert metrics["representation/anisotropy"] == pytest.approx(geometry.anisotropy(vectors_SD))


def test_what_is_undefined_is_a_note(embedder: Embedder, source: VectorSource, tmp_path: Path) -> None:
    with torch.inference_mode():
        encoder = encoder_of(random_config())
        encoder.loaded.model.embeddings.weight.zero_()
    flat = dataclasses.replace(embedder, encoder=encoder)
    metrics, notes = measured(flat, source.with_encoder(encoder, FP32), tmp_path)
    assert "representation/uniformity" in metrics and "representation/entropy" not in metrics
    assert all(notes[f"note.representation/{name}"].startswith("undefined: ") for name in ("entropy", "curvature"))
