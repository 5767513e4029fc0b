"""The files that come with the package: these very bytes, within their size, and worth what the model card says."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from scipy.stats import spearmanr

from rwkv_sweep.config.layer_spec import EMBEDDING, layer_name
from rwkv_sweep.config.schema import DatasetConfig
from rwkv_sweep.data.splits import PACKAGED, PairSplit, load_splits
from rwkv_sweep.evaluation.metrics import cosine
from rwkv_sweep.evaluation.word_baselines.word_overlap import word_overlap
from rwkv_sweep.evaluation.word_baselines.word_vectors import ASSET as WORD_VECTORS
from rwkv_sweep.models.pretrained.locate import MODEL as MODEL
from tests.small_models import TINY, encoder_of

pytestmark = pytest.mark.usefixtures("one_thread")

WEIGHTS, TOKENIZER = MODEL / "model.safetensors", MODEL / "tokenizer.json"
DIGESTS = {
    WEIGHTS: "1b6dbb714a555960922e1a684c7c54e2899fa5d8ad7fae65ff02f1d7724e7a0a",
    TOKENIZER: "5ce55032364d8847b65e9d187fd54fb36df837749a81f7e409762f4b649049d7",
    WORD_VECTORS: "87161745e437c6112b52192e69ed28e505c72f4d5b4efbd7353ccde892c4159d",
    PACKAGED["embedded"] / "train.csv": "3731c7bb5acf3d4b93a062df9cb7ed56cc7891b76be0b74348adcaef285bbfb6",
    PACKAGED["embedded"] / "test.csv": "b7babd769d5f18ad330b776bcd2c87e5697a353df60bbc34804d84884b652c64",
    PACKAGED["embedded_hard"]: "234ee96bd228c015a4e18cbd49012472237f6ee0c24b59adde422d17678159d2",
}
MAX_BYTES = 32 * 1024 * 1024

# python -m rwkv_sweep -m layer=embedding,0,1,2,3,4,5,6,7,8,9,10,11,final (fp32, CPU): the table of the model card.
GRADED = {
    "embedding": 0.7150,
    "0": 0.7284,
    "1": 0.7274,
    "2": 0.7361,
    "3": 0.7363,
    "4": 0.7399,
    "5": 0.7460,
    "6": 0.7214,
    "7": 0.7190,
    "8": 0.7375,
    "9": 0.7364,
    "10": 0.6976,
    "11": 0.5899,
    "final": 0.6624,
}
# The same with dataset=embedded_hard.
HARD = {
    "embedding": 0.0441,
    "0": 0.0512,
    "1": 0.0515,
    "2": 0.0532,
    "3": 0.0502,
    "4": 0.0503,
    "5": 0.0503,
    "6": 0.0614,
    "7": 0.0758,
    "8": 0.0994,
    "9": 0.1239,
    "10": 0.1396,
    "11": 0.1168,
    "final": 0.1106,
}


@pytest.fixture(scope="module")
def pairs() -> PairSplit:
    return packaged("embedded_hard", "all")


def packaged(name: str, split: str) -> PairSplit:
    (pairs,) = load_splits(DatasetConfig(name, "assets", id=name, splits=[split], word_split="punctuation"))
    return pairs


@pytest.mark.parametrize("path", list(DIGESTS), ids=lambda path: path.name)
def test_the_files_are_the_ones_that_were_measured(path: Path) -> None:
    assert hashlib.sha256(path.read_bytes()).hexdigest() == DIGESTS[path]


def test_what_was_trained_stays_small() -> None:
    assert sum(path.stat().st_size for path in (WEIGHTS, TOKENIZER, WORD_VECTORS)) <= MAX_BYTES


def test_two_thirds_of_the_pairs_mean_the_same(pairs: PairSplit) -> None:
    assert pairs.binary and len(pairs) >= 400
    assert 0.60 <= pairs.labels.mean() <= 0.72


def test_no_sentence_occurs_twice(pairs: PairSplit) -> None:
    assert len({sentence.lower() for sentence in pairs.sentences}) == 2 * len(pairs)


def test_shared_words_do_not_give_the_label_away(pairs: PairSplit) -> None:
    overlap = word_overlap(pairs.sentences1, pairs.sentences2, "punctuation")
    assert abs(spearmanr(overlap, pairs.labels).statistic) < 0.15


@pytest.mark.parametrize(("name", "split", "expected"), [("embedded", "test", GRADED), ("embedded_hard", "all", HARD)])
def test_every_layer_scores_as_the_model_card_says(name: str, split: str, expected: dict[str, float]) -> None:
    pairs = packaged(name, split)
    encoder = encoder_of(TINY)
    blocks = encoder.loaded.model.config.num_hidden_layers
    layers = (EMBEDDING, *range(blocks + 1))
    vectors_LSD = encoder.encode(pairs.sentences, layers, ["mean"])["mean"].numpy()
    measured = {
        layer_name(layer, blocks): spearmanr(cosine(v_SD[: len(pairs)], v_SD[len(pairs) :]), pairs.labels).statistic
        for layer, v_SD in zip(layers, vectors_LSD, strict=True)
    }
    # To four decimals, give or take a swap of two nearly equal cosines on another processor.
    assert measured == pytest.approx(expected, abs=1e-4, rel=0)
