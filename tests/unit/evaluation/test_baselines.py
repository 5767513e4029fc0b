"""Word vectors and word overlap: the published figures, the file formats, and what is said of bad files."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from scipy.stats import spearmanr

from rwkv_sweep.config.schema import DatasetConfig
from rwkv_sweep.data.splits import PairSplit, load_splits
from rwkv_sweep.errors import UserError
from rwkv_sweep.evaluation.metrics import cosine
from rwkv_sweep.evaluation.word_baselines import word_vectors
from rwkv_sweep.evaluation.word_baselines.word_overlap import split_words, word_overlap
from rwkv_sweep.evaluation.word_baselines.word_vectors import WordVectors, load_word_vectors

DATA = Path(__file__).parents[4] / "shared" / "data"
GLOVE = DATA / "glove" / "glove.6B.50d.subset.txt"
needs_mrpc = pytest.mark.skipif(not (DATA / "mrpc").is_dir(), reason=f"MRPC is not at {DATA / 'mrpc'}")
needs_glove = pytest.mark.skipif(not GLOVE.is_file(), reason=f"GloVe is not at {GLOVE}")

TEXT = b"the 0.5 -1 2\ncat 1 1 1e-1\n. . 3 0 0\n"


@pytest.fixture(scope="module")
def glove() -> WordVectors:
    return load_word_vectors(str(GLOVE))


def mrpc(*splits: str, folder: str = "mrpc") -> list[PairSplit]:
    return load_splits(DatasetConfig(name="mrpc", source="hub", path=str(DATA / folder), splits=list(splits)))


def vectors_file(folder: Path, content: bytes) -> str:
    path = folder / "vectors.txt"
    path.write_bytes(content)
    return str(path)


def message(path: str | None) -> str:
    with pytest.raises(UserError) as caught:
        load_word_vectors(path)
    return str(caught.value)


@needs_mrpc
@needs_glove
def test_published_word_vector_figures(glove: WordVectors) -> None:
    actual = []
    for split in mrpc("train[:1000]", "validation"):
        scores = cosine(glove.encode(split.sentences1), glove.encode(split.sentences2))
        actual.append(round(float(spearmanr(scores, split.labels).statistic), 4))
    assert actual == [0.3876, 0.4326]


@needs_mrpc
def test_published_word_overlap_figure() -> None:
    (split,) = mrpc("validation")
    scores = word_overlap(split.sentences1, split.sentences2)
    assert round(float(spearmanr(scores, split.labels).statistic), 4) == 0.4165


@needs_mrpc
@needs_glove
def test_ordinary_text_needs_punctuation_cut_off(glove: WordVectors) -> None:
    """On MRPC as first published, cutting at white space loses one word in seven and five points of Spearman."""
    (split,) = mrpc("validation", folder="mrpc/raw")
    apart = WordVectors(glove.name, glove.kv, glove.fingerprint, "punctuation")
    actual = []
    for vectors in (glove, apart):
        scores = cosine(vectors.encode(split.sentences1), vectors.encode(split.sentences2))
        words = [word for text in split.sentences for word in split_words(text, vectors.word_split)]
        known = sum(word in vectors.kv.key_to_index for word in words) / len(words)
        actual.append((known, float(spearmanr(scores, split.labels).statistic)))
    assert actual[0] == pytest.approx((0.8625, 0.3794), abs=1e-4)
    assert actual[1] == pytest.approx((0.9911, 0.4315), abs=1e-4)


def test_mean_counts_unknown_words(tmp_path: Path) -> None:
    vectors = load_word_vectors(vectors_file(tmp_path, TEXT))
    encoded = vectors.encode(["The cat sat", "nobody knows", "the THE", ""])
    assert encoded.dtype == np.float32
    np.testing.assert_allclose(encoded, [[0.5, 0, 0.7], [0, 0, 0], [0.5, -1, 2], [0, 0, 0]], atol=1e-7)


def test_formats_agree(tmp_path: Path) -> None:
    plain = load_word_vectors(vectors_file(tmp_path, TEXT))
    headed = load_word_vectors(vectors_file(tmp_path, b"3 3\r\n" + TEXT.replace(b"\n", b" \r\n")))
    packed = np.frombuffer("\n".join(plain.kv.index_to_key).encode(), np.uint8)
    save_file({"vectors": plain.kv.vectors.astype(np.float16), "words": packed}, tmp_path / "v.safetensors")
    compact = load_word_vectors(str(tmp_path / "v.safetensors"))
    for vectors in (plain, headed, compact):
        assert vectors.kv.index_to_key == ["the", "cat", ". ."]
        assert len(vectors.kv.vectors) == 3
        np.testing.assert_allclose(vectors.kv["cat"], [1, 1, 0.1], atol=1e-4)
        assert vectors.kv.most_similar("cat")  # gensim's own table in every respect
    assert plain.name == "vectors.txt" and plain.fingerprint != headed.fingerprint


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "holds no word vectors"),
        (b"2 3\n", "holds no word vectors"),
        (b"2 0\na 1\nb 1\n", "line 1: it announces vectors of 0 numbers"),
        (b"a 1 2\nb 1\n", "line 2: 'b 1' is not a word and 2 numbers"),
        (b"a 1 2\n\nb 1 2\n", "line 2: '' is not a word and 2 numbers"),
        (b"a 1 2\nb 1 x2\n", "line 2: 'x2' is not a number"),
        (b"2 2\na 1 2\nb 1\n", "line 3: 'b 1' is not a word and 2 numbers"),
        (b"3 2\na 1 2\nb 1 2\n", "line 1: it announces 3 words, but 2 lines follow"),
        (b"a 1 2\nb 1 nan\n", "the vector of word 2, 'b', holds NaN or infinity"),
        (b"a 1 2\nb 1 2\n\n\nc 1\n", "line 3: '' is not a word and 2 numbers"),
        (b"a 1 2\nb 1_0 2\n", "line 2: '1_0 2' are not 2 numbers"),
        ("a 1 2\nb 1 \u0662\n".encode(), "line 2: '1 \u0662' are not 2 numbers"),
        (b"a 1 2\nb 1e99 2\n", "the vector of word 2, 'b', holds NaN or infinity"),
        (b"\n \n\t\n", "holds no word vectors"),
        (b"a 1 2\n\xff 1 2\n", "line 2: b'\\xff 1 ' is not UTF-8"),
        (b"<html>\n<body>\n", "line 1: '<html>' is not a word and 1 numbers"),
    ],
)
def test_bad_text_names_the_line(tmp_path: Path, content: bytes, expected: str) -> None:
    path = vectors_file(tmp_path, content)
    assert expected in message(path) and path in message(path)


def test_missing_and_broken_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert message(str(tmp_path / "none.txt")).startswith(
        f"word_vectors.path={tmp_path / 'none.txt'} does not exist: valid is a file of vectors"
    )
    asset = tmp_path / "asset.safetensors"
    monkeypatch.setattr(word_vectors, "ASSET", asset)
    assert message(None).startswith(f"the packaged word vectors {asset} cannot be read")
    asset.write_bytes(b"short")
    assert "is not a file of word vectors" in message(None)
    save_file({"words": np.zeros(1, np.uint8)}, asset)
    assert "KeyError('vectors')" in message(None)
    save_file({"words": np.frombuffer(b"a\nb", np.uint8), "vectors": np.zeros((3, 2), np.float16)}, asset)
    assert "2 words, but vectors of shape [3, 2]" in message(None)
    save_file({"words": np.frombuffer(b"a\nb", np.uint8), "vectors": np.ones((2, 2), np.float16)}, asset)
    assert load_word_vectors().kv.index_to_key == ["a", "b"]


def test_split_words() -> None:
    text = 'The U.S. firm\'s "long-term" sales rose 1,000.5 %, he said.'
    assert split_words(text, "whitespace") == text.lower().split()
    assert split_words(text, "punctuation") == (
        ["the", "u.s.", "firm", "'s", '"', "long-term", '"', "sales", "rose", "1,000.5", "%", ",", "he", "said", "."]
    )
    with pytest.raises(UserError, match=r"dataset\.word_split=regex is not known: valid are whitespace, punctuation"):
        split_words(text, "regex")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("一只猫, 3只", "一 只 猫 , 3 只"),
        ("東京タワーは2020年", "東 京 タ ワー は 2020 年"),
        ("ｶﾀｶﾅ ㄅㄆ", "ｶ ﾀ ｶ ﾅ ㄅ ㄆ"),
        ("ไทยเป็น", "ไ ท ย เ ป็ น"),
        ("ລາວ", "ລ າ ວ"),
        ("ភាសាខ្មែរ", "ភា សា ខ្ មែ រ"),
        ("မြန်မာ", "မြ န် မာ"),
        # Spaced scripts keep their words whole, combining marks with them.
        ("한국어 문장입니다.", "한국어 문장입니다 ."),
        ("हिन्दी में नमस्ते।", "हिन्दी में नमस्ते ।"),
        ("தமிழ் மொழி", "தமிழ் மொழி"),
        ("שָׁלוֹם, עברית", "שָׁלוֹם , עברית"),
        ("Это не ёлка-палка!", "это не ёлка-палка !"),
        ("cafe\u0301 na\u00efve m² ½", "cafe\u0301 na\u00efve m² ½"),
        ("\u2764\ufe0f ok", "\u2764\ufe0f ok"),
    ],
)
def test_words_of_other_scripts(text: str, words: str) -> None:
    assert split_words(text, "punctuation") == words.split()


@pytest.mark.parametrize("name", ["mrpc/raw/validation.tsv", "mrpc/validation.tsv"])
@needs_mrpc
def test_english_is_cut_as_by_the_plain_pattern(name: str) -> None:
    """What other scripts need leaves English alone: every published figure rests on this cut."""
    plain = re.compile(r"(?:[a-z]\.){2,}|\d+(?:[.,:/]\d+)+|'\w+|\w+(?:-\w+)*|[^\w\s]")
    text = (DATA / name).read_text(encoding="utf-8")
    assert split_words(text, "punctuation") == plain.findall(text.lower())


def test_word_overlap() -> None:
    scores = word_overlap(["A b c", "a", "x", ""], ["c B d", "A a", "y", ""])
    assert scores.tolist() == [0.5, 1, 0, 0]
    assert word_overlap(["he said."], ["said he"]).tolist() == [1 / 3]
    assert word_overlap(["he said."], ["said he ."], "punctuation").tolist() == [1]
    with pytest.raises(ValueError):
        word_overlap(["a"], [])
