"""An exported encoder inside sentence-transformers. Skipped where that, no dependency of ours, is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rwkv_sweep import Encoder
from rwkv_sweep.export.folder import export_run
from rwkv_sweep.export.sentence_transformer import RwkvSentenceEncoder
from tests.small_runs import finish_run, small_checkpoint, small_config, small_pairs

TEXTS = ["A cat sleeps on the mat.", "Rain.", "In May prices went up by 3 percent, the bank said."]

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("exported")
    run = small_config(small_checkpoint(root / "small"), small_pairs(root / "data"), "layer=1", "postprocess=whiten")
    finish_run(run, root / "run")
    export_run(str(root / "run"), root / "out", link=False)
    return root / "out"


def test_the_module_alone(exported: Path, tmp_path: Path) -> None:
    module = RwkvSentenceEncoder.load(str(exported))
    expected_SD = Encoder.from_run(exported).encode(TEXTS)
    vectors_SD = module(module.preprocess(TEXTS))["sentence_embedding"]
    np.testing.assert_allclose(vectors_SD.numpy(), expected_SD, atol=1e-6)
    assert module.get_sentence_embedding_dimension() == expected_SD.shape[1] and module.max_seq_length == 512
    assert not module(module.tokenize(["", "A"]))["sentence_embedding"][0].any()
    assert module.preprocess(["a"], prompt="Q: ") == {"texts": ["Q: a"]}
    module.save(str(tmp_path / "copy"))
    again_SD = RwkvSentenceEncoder(tmp_path / "copy")(module.preprocess(TEXTS))["sentence_embedding"]
    np.testing.assert_allclose(again_SD.numpy(), expected_SD, atol=1e-6)


def test_a_sentence_transformer(exported: Path, tmp_path: Path) -> None:
    package = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    # From version 6 on it asks for this with every module that is not its own, here one of the installed package.
    model = package.SentenceTransformer(str(exported), device="cpu", trust_remote_code=True)
    expected_SD = Encoder.from_run(exported).encode(TEXTS)
    np.testing.assert_allclose(model.encode(TEXTS), expected_SD, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(model.encode(TEXTS[0], normalize_embeddings=True)), 1, atol=1e-5)
    assert model.encode(TEXTS, truncate_dim=5).shape == (3, 5)
    assert model.encode(TEXTS, precision="binary").dtype == np.int8
    prompted = model.encode(TEXTS, prompt="Q: ")
    np.testing.assert_allclose(prompted, Encoder.from_run(exported).encode(TEXTS, prompt="Q: "), atol=1e-5)
    cosines = model.similarity(model.encode(TEXTS), model.encode(TEXTS)).numpy()
    np.testing.assert_allclose(np.diag(cosines), 1, atol=1e-5)
    hits = package.util.semantic_search(model.encode(TEXTS[:1]), model.encode(TEXTS))
    assert hits[0][0]["corpus_id"] == 0
    model.save(str(tmp_path / "saved"))
    again = package.SentenceTransformer(str(tmp_path / "saved"), device="cpu", trust_remote_code=True)
    np.testing.assert_allclose(again.encode(TEXTS), expected_SD, atol=1e-5)
