"""The Python API, on the embedded model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import rwkv_sweep
from rwkv_sweep import Encoder
from rwkv_sweep.config_store import conf_dir
from rwkv_sweep.errors import UserError
from rwkv_sweep.evaluate import cosine

SENTENCES = ["A cat sleeps on the mat.", "The cat is asleep.", "Prices rose by 3 percent in May."]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.from_config("layer=[3,5]", "aggregation=mean", "device=cpu")


def test_vectors_are_those_of_the_layers(encoder: Encoder) -> None:
    vectors_SD = encoder.encode(SENTENCES)
    layers_LSD = encoder.encode_layers(SENTENCES, [3, 5])
    unit_LSD = layers_LSD / np.linalg.norm(layers_LSD, axis=-1, keepdims=True)
    assert vectors_SD.shape == (3, 256) and vectors_SD.dtype == np.float32
    np.testing.assert_allclose(vectors_SD, unit_LSD.mean(0), atol=1e-6)
    # Alone or together, as text or as mteb's batches, a sentence has the same vector.
    np.testing.assert_allclose(encoder.encode(SENTENCES[0]), vectors_SD[0], atol=1e-6)
    batches: list[dict[str, Any]] = [{"text": SENTENCES[:2]}, {"text": SENTENCES[2:]}]
    np.testing.assert_allclose(encoder.encode(batches, task_metadata=None, hf_split="test"), vectors_SD, atol=1e-6)
    np.testing.assert_allclose(
        np.linalg.norm(encoder.encode(SENTENCES, normalize_embeddings=True), axis=1), 1, atol=1e-6
    )


def test_layers_of_one_call(encoder: Encoder) -> None:
    assert encoder.encode_layers(SENTENCES).shape == (12, 3, 256) and encoder.num_blocks == 12
    unit_SD = encoder.encode_layers(SENTENCES, "final")[0]
    unit_SD = unit_SD / np.linalg.norm(unit_SD, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode(SENTENCES, layers="final"), unit_SD, atol=1e-6)


def test_similarity_is_the_cosine(encoder: Encoder) -> None:
    vectors_SD = encoder.encode(SENTENCES)
    whole, pairs = (
        encoder.similarity(vectors_SD, vectors_SD[:2]),
        encoder.similarity_pairwise(vectors_SD, vectors_SD[::-1]),
    )
    assert whole.shape == (3, 2)
    np.testing.assert_allclose(whole[:2, 1], cosine(vectors_SD[:2], vectors_SD[[1, 1]]), atol=1e-6)
    np.testing.assert_allclose(pairs, cosine(vectors_SD, vectors_SD[::-1]), atol=1e-6)
    assert whole[0, 1] > whole[2, 1], "two sentences on a cat are closer than one on prices"
    assert encoder.similarity(np.zeros((1, 256)), vectors_SD[:1]).item() == 0


def test_idf_counts_in_named_texts_and_not_in_those_of_a_call(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pooling=idf needs texts in which to count tokens: valid are pooling\.fit="):
        Encoder.from_config("pooling=idf", "device=cpu")
    (tmp_path / "corpus.txt").write_text("\n".join(SENTENCES))
    for named in ("pooling.fit=all", f"pooling.corpus={tmp_path / 'corpus.txt'}"):
        idf = Encoder.from_config("layer=3", "pooling=idf", "device=cpu", named)
        alone = idf.encode(SENTENCES[0])
        np.testing.assert_allclose(idf.encode(SENTENCES)[0], alone, atol=1e-5)
        mean = Encoder.from_config("layer=3", "device=cpu").encode(SENTENCES[0])
        assert np.abs(alone - mean).max() > 0.01, "the weights do something"


def test_what_is_refused(encoder: Encoder) -> None:
    with pytest.raises(UserError, match="layer=12x is not a layer"):
        encoder.encode(SENTENCES, layers="12x")
    with pytest.raises(UserError, match="aggregation=none takes one layer"):
        Encoder.from_config("layer=[3,5]", "device=cpu")
    with pytest.raises(UserError, match="postprocess=whiten needs texts to be fitted on"):
        Encoder.from_config("postprocess=whiten", "device=cpu")
    with pytest.raises(AttributeError, match="no attribute 'Decoder'"):
        rwkv_sweep.Decoder  # noqa: B018


def test_a_program_that_uses_hydra_keeps_its_own_state(tmp_path: Path) -> None:
    with initialize_config_dir(version_base=None, config_dir=str(conf_dir())):
        before = GlobalHydra.instance().hydra
        assert Encoder.from_config("layer=1", "device=cpu", "pooling=max").encode(SENTENCES).shape == (3, 256)
        assert GlobalHydra.instance().hydra is before
