"""Smaller forms of vectors: bytes, what is read back, and the quality of a run that compares them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rwkv_sweep.api import Encoder
from rwkv_sweep.config.fitting_splits import output_split
from rwkv_sweep.config.schema import AggregationConfig, DatasetConfig, ModelConfig, PostprocessConfig
from rwkv_sweep.data.splits import PairSplit, load_splits
from rwkv_sweep.embedding.cached_encoder import VectorSource
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.errors import UserError
from rwkv_sweep.evaluation.output_formats import OutputFormat, fitted_format, quantized, ranges, vector_bytes
from rwkv_sweep.evaluation.quality import OutputFit, PostprocessFit, measure_quality
from rwkv_sweep.evaluation.resampling import Resampling
from tests.small_models import FP32, encoder_of

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = ModelConfig("random", "random", hidden_size=32, num_blocks=2, head_size=8, intermediate_size=32, vocab_size=256)


def vectors(count: int = 40, dimension: int = 30) -> np.ndarray:
    values = np.random.default_rng(count * dimension).normal(size=(count, dimension)).astype(np.float32)
    return values * np.linspace(0.01, 5, dimension, dtype=np.float32) + 0.3


def refuse() -> np.ndarray:
    raise AssertionError("nothing is fitted here")


@pytest.mark.parametrize(
    ("name", "size"), [("float32", 120), ("float16", 60), ("int8", 30), ("binary", 4), ("truncate_7", 28)]
)
def test_bytes_are_those_of_the_stored_array(name: str, size: int) -> None:
    vectors_SD = vectors()
    stored = {
        "float16": vectors_SD.astype(np.float16),
        "int8": quantized(vectors_SD, "int8", ranges(vectors_SD)),
        "binary": quantized(vectors_SD, "ubinary", None),
        "truncate_7": vectors_SD[:, :7],
    }.get(name, vectors_SD)
    assert vector_bytes(name, 30) == size == stored[0].nbytes


def test_cosines_of_signs_come_from_the_hamming_distance() -> None:
    vectors_SD = vectors()
    restored = OutputFormat("binary").restored(vectors_SD)
    packed = quantized(vectors_SD, "ubinary", None)
    for a, b in ((0, 1), (2, 3)):
        distance = int(np.unpackbits(packed[a] ^ packed[b]).sum())
        cosine = restored[a] @ restored[b] / np.linalg.norm(restored[a]) / np.linalg.norm(restored[b])
        assert cosine == pytest.approx(1 - 2 * distance / 30)


def test_int8_is_within_half_a_step_inside_the_ranges_and_at_their_ends_outside() -> None:
    fitting, others = vectors(50), vectors(7) * 1.5
    form = fitted_format("int8", lambda: fitting)
    restored, (low, high) = form.restored(others), ranges(fitting)
    step = (high - low) / 255
    assert (np.abs(restored - np.clip(others, low + step / 2, high + step / 2)) <= 0.501 * step).all()
    assert (others < low).any() and (others > high).any(), "some lie outside"
    # One vector alone, whose own range is a point: the ranges are those of other texts.
    np.testing.assert_array_equal(form.restored(others[:1]), restored[:1])
    assert np.abs(restored[0]).max() > 0


@pytest.mark.parametrize("name", ["float32", "float16", "binary", "truncate_7"])
def test_other_forms_need_no_texts_and_a_vector_is_its_own_whatever_stands_beside_it(name: str) -> None:
    form, vectors_SD = fitted_format(name, refuse), vectors()
    restored = form.restored(vectors_SD)
    np.testing.assert_array_equal(form.restored(vectors_SD[3:4]), restored[3:4])
    if name == "float16":
        np.testing.assert_allclose(restored, vectors_SD, rtol=2**-11)
    if name == "truncate_7":
        np.testing.assert_array_equal(restored, vectors_SD[:, :7])


@pytest.mark.parametrize("size", [30, 31])
def test_truncating_to_no_fewer_dimensions_is_refused(size: int) -> None:
    with pytest.raises(
        UserError, match=f"output=truncate_{size} of vectors with 30 dimensions: valid is truncate_1 to"
    ):
        OutputFormat(f"truncate_{size}").restored(vectors())


def pairs(tmp_path: Path) -> tuple[DatasetConfig, list[PairSplit]]:
    words = [f"word{n} and thing{n * 7 % 11}" for n in range(24)]
    for name, rows in (("train", words[:12]), ("test", words[8:])):
        lines = [f"{first}\t{second}\t{n % 3}" for n, (first, second) in enumerate(zip(rows, rows[::-1], strict=True))]
        (tmp_path / f"{name}.tsv").write_text("\n".join(["sentence1\tsentence2\tlabel", *lines]) + "\n")
    config = DatasetConfig("pairs", "file", str(tmp_path), splits=["test"])
    return config, load_splits(config)


def test_all_forms_are_scored_from_one_forward_and_int8_never_sees_scored_sentences(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, splits = pairs(tmp_path)
    embedder = Embedder(encoder_of(SMALL), (1,), "mean", AggregationConfig("none"))
    fitted: list[np.ndarray] = []
    monkeypatch.setattr(
        "rwkv_sweep.evaluation.output_formats.ranges",
        lambda vectors_SD: fitted.append(vectors_SD) or ranges(vectors_SD),
    )
    metrics = {}
    for name in ("float32", "float16", "int8", "binary", "truncate_20"):
        source = VectorSource(embedder.encoder, FP32, ["mean"], None)
        fitting = PostprocessFit(PostprocessConfig("none"), dataset)
        output = OutputFit(name, "train")
        metrics[name] = measure_quality(
            embedder, source, splits, fitting, output, {}, Resampling(50, 0), tmp_path
        ).metrics
    assert "output/spearman_delta" not in metrics["float32"]
    whole = metrics["float32"]["quality/spearman"]
    for name in ("float16", "int8", "binary", "truncate_20"):
        delta = metrics[name]["quality/spearman"] - whole
        assert metrics[name]["output/spearman_delta"] == pytest.approx(delta)
        assert metrics[name]["output/spearman_delta_lo"] <= delta <= metrics[name]["output/spearman_delta_hi"]
    assert abs(metrics["float16"]["output/spearman_delta"]) < 0.05
    (fitting_SD,) = fitted
    shared = splits[0].sentences.is_in(
        load_splits(DatasetConfig("p", "file", str(tmp_path), splits=["train"]))[0].sentences
    )
    assert shared.any() and len(fitting_SD) < 24, "sentences of both splits are left out"


def test_an_encoder_gives_float32() -> None:
    with pytest.raises(UserError, match="output=binary: an encoder gives float32 vectors"):
        Encoder.from_config("output=binary")


def test_the_split_of_the_ranges_is_the_keys_or_the_data_sets_own() -> None:
    dataset = DatasetConfig("pairs", "file", "x", splits=["test"], fit="train")
    assert output_split("int8", None, dataset) == "train" and output_split("int8", "train[:3]", dataset) == "train[:3]"
    assert output_split("binary", "train", dataset) is None
    with pytest.raises(UserError, match="output=int8 output_fit=null: valid is a split of the dataset"):
        output_split("int8", None, DatasetConfig("pairs", "file", "x", splits=["test"]))
