"""Tests of the scripts in `pretraining` that read and count text, on tiny corpora made here."""

import argparse
import itertools
import json
import lzma
import random
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tokenizers")

from pretraining import corpus, ngrams, tokenizer

PARAGRAPHS = [
    "The company's shares rose 4.6 % to $21.51, Dr. Miller said. It was the best week since the U.S. market opened.",
    "“We didn't expect it,” said George W. Hill (an analyst). Nobody else did. Prices fell in well-known shops.",
    "Rain fell over the northern hills on Monday, and the river rose. Two bridges were closed for 10 hours.",
]


def write_corpus(folder: Path, name: str, documents: list[list[str]]) -> Path:
    """Write documents in the corpus's form."""
    text = "\n".join("".join(paragraph + "\n" for paragraph in document) for document in documents)
    path = folder / f"{name}.txt.xz"
    with lzma.open(path, "wt", encoding="utf-8", newline="\n") as file:
        file.write(text)
    return path


def many_documents(count: int) -> list[list[str]]:
    """Make distinct documents."""
    return [[f"Document number {number}.", PARAGRAPHS[number % 3]] for number in range(count)]


def test_documents_are_read_as_written(tmp_path: Path) -> None:
    documents = many_documents(5)
    assert list(corpus.read_documents(write_corpus(tmp_path, "news", documents))) == documents


def test_split_depends_on_the_text_alone(tmp_path: Path) -> None:
    documents = many_documents(3000)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write_corpus(tmp_path / "a", "news", documents)
    write_corpus(tmp_path / "b", "renamed", random.Random(1).sample(documents, len(documents)))
    first, second = (sorted(corpus.documents(tmp_path / name, "validation")) for name in "ab")
    assert first == second
    assert 10 <= len(first) <= 60
    train = list(corpus.documents(tmp_path / "a", "train"))
    assert len(train) + len(first) == len(documents)
    assert not {tuple(document) for document in train} & {tuple(document) for document in first}


def test_only_names_sources_by_their_start(tmp_path: Path) -> None:
    write_corpus(tmp_path, "news-1", [["One."]])
    write_corpus(tmp_path, "books", [["Two."]])
    assert list(corpus.documents(tmp_path, "all", ["news"])) == [["One."]]
    with pytest.raises(ValueError, match="unknown split"):
        list(corpus.documents(tmp_path, "test"))


def test_split_sentences_keeps_abbreviations() -> None:
    assert list(corpus.split_sentences(PARAGRAPHS[0])) == [
        "The company's shares rose 4.6 % to $21.51, Dr. Miller said.",
        "It was the best week since the U.S. market opened.",
    ]
    assert list(corpus.split_sentences(PARAGRAPHS[1])) == [
        "“We didn't expect it,” said George W. Hill (an analyst).",
        "Nobody else did.",
        "Prices fell in well-known shops.",
    ]


def test_window_hashes_agree_with_a_direct_computation() -> None:
    text = bytes(random.Random(2).choices(range(97, 123), k=60))
    base = 0x9E3779B97F4A7C15
    for start, value in enumerate(corpus.window_hashes(text)):
        expected = 0
        for byte in text[start : start + corpus.MIN_CHARACTERS]:
            expected = (expected * base + byte) % 2**64
        assert int(value) == expected
    assert start == 60 - corpus.MIN_CHARACTERS


def test_check_finds_a_planted_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted = "The company 's quick brown fox , he said , jumped over 12 lazy dogs ."
    other = "This sentence of the evaluation set is nowhere in the corpus ."
    header = "label\tidx\tid1\tid2\tsentence1\tsentence2\n"
    mrpc = tmp_path / "test.tsv"
    mrpc.write_text(header + f'1\t0\t1\t2\t{planted}\t{other}\n0\t1\t3\t4\tShort " one .\t{other}\n', encoding="utf-8")
    write_corpus(tmp_path, "clean", many_documents(20))
    assert corpus.check(tmp_path, [mrpc]) == 0
    text = "Before it. The company\u2019s quick brown fox, he said, jumped over 12 lazy dogs. After it."
    write_corpus(tmp_path, "dirty", [*many_documents(7), [PARAGRAPHS[2], text]])
    assert corpus.check(tmp_path, [mrpc]) == 1
    output = capsys.readouterr().out
    assert "2 distinct sentences" in output
    assert "HIT dirty document 8" in output


@pytest.mark.parametrize(
    ("plain", "spaced"),
    [
        ("\"WE'RE ready,\" SHE'LL say", "\" WE 'RE ready , \" SHE 'LL say"),
        ("The company's shares rose.", "The company 's shares rose ."),
        ("They didn't say, we're told", "They didn 't say , we 're told"),
        ("He said “the witness” lied.", "He said `` the witness '' lied ."),
        ('"It\'s over," he said.', '" It \'s over , " he said .'),
        ("up 4.4%, at A$4.56 (1,000 shares)", "up 4.4 % , at A $ 4.56 ( 1,000 shares )"),
        ("PG&E Corp.'s well-known Sinead O'Connor", "PG & E Corp. 's well-known Sinead O 'Connor"),
        ("both companies' boards—all of them", "both companies ' boards -- all of them"),
        ("opens at 10:30 a.m. in the U.S.", "opens at 10 : 30 a.m. in the U.S."),
        ("<.SPX> fell", "< .SPX > fell"),
    ],
)
@pytest.mark.parametrize("lowercase", [True, False])
def test_joined_form_is_the_same_for_plain_and_spaced_text(plain: str, spaced: str, lowercase: bool) -> None:
    trained = tokenizer.train(iter(PARAGRAPHS), 300, lowercase, join_punctuation=True)
    assert trained.encode(plain).ids == trained.encode(spaced).ids
    unjoined = tokenizer.train(iter(PARAGRAPHS), 300, lowercase, join_punctuation=False)
    assert unjoined.encode(plain).ids != unjoined.encode(spaced).ids


def test_tokenizer_form() -> None:
    trained = tokenizer.train(iter(PARAGRAPHS * 9), 400)
    assert trained.token_to_id(tokenizer.END_OF_TEXT) == 0
    assert trained.encode("company").tokens == trained.encode("the company").tokens[-len(trained.encode("company")) :]
    pieces = trained.pre_tokenizer.pre_tokenize_str(" rose 215 fell")
    assert [piece for piece, _ in pieces] == ["Ġrose", "Ġ2", "1", "5", "Ġfell"]
    assert trained.decode(trained.encode("Prices FELL\nin Zürich ☃").ids) == " prices fell\n in zürich ☃"
    assert trained.encode("").ids == []
    with pytest.raises(ValueError, match="uint16"):
        tokenizer.train(iter(PARAGRAPHS), 70000)


def test_truncated_tokenizer_is_the_one_trained_for_fewer_ids() -> None:
    paragraphs = [paragraph for document in many_documents(30) for paragraph in document]
    larger, smaller = (tokenizer.train(iter(paragraphs), size) for size in (400, 300))
    assert json.loads(tokenizer.truncate(larger, 300).to_str()) == json.loads(smaller.to_str())


def test_encode_writes_separated_documents(tmp_path: Path) -> None:
    documents = many_documents(300)
    write_corpus(tmp_path, "news", documents)
    trained = tokenizer.train(tokenizer.sample_paragraphs(tmp_path, 0.02), 300)
    trained.save(str(tmp_path / "tokenizer.json"))
    tokenizer.encode(tmp_path, tmp_path / "tokenizer.json", tmp_path / "out", [""])
    arrays = [np.load(tmp_path / "out" / f"{split}.npy") for split in ("train", "validation")]
    assert all(array.dtype == np.uint16 and array[-1] == 0 for array in arrays)
    assert sum(int((array == 0).sum()) for array in arrays) == len(documents)
    first = next(corpus.documents(tmp_path, "train"))
    assert arrays[0][: len(trained.encode("\n".join(first)).ids)].tolist() == trained.encode("\n".join(first)).ids


def brute_force_kneser_ney(train: list[int], validation: list[int], size: int) -> float:
    """Follow the definition, pair by pair."""
    pairs = list(itertools.pairwise(train))
    distinct = set(pairs)
    counts = [pairs.count(pair) for pair in distinct]
    discount = counts.count(1) / (counts.count(1) + 2 * counts.count(2))
    total = 0.0
    for before, after in itertools.pairwise(validation):
        continuation = (sum(pair[1] == after for pair in distinct) + 1) / (len(distinct) + size)
        row = sum(pair[0] == before for pair in pairs)
        kept, left_over = 0.0, 1.0
        if row:
            kept = max(pairs.count((before, after)) - discount, 0) / row
            left_over = discount * sum(pair[0] == before for pair in distinct) / row
        total -= np.log(kept + left_over * continuation)
    return total / (len(validation) - 1)


def test_ngrams_agree_with_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ngrams, "CHUNK", 64)  # so that pairs across chunks are tested too
    size = 12
    generator = np.random.default_rng(3)
    train = (generator.geometric(0.3, 500).clip(1, size - 1)).astype(np.uint16)
    validation = np.append(generator.geometric(0.3, 60).clip(1, size - 1), [0, 3]).astype(np.uint16)
    result = ngrams.cross_entropies(train, validation, size)
    assert result["bigram, Kneser-Ney"] == pytest.approx(
        brute_force_kneser_ney(train.tolist(), validation.tolist(), size)
    )
    cut = 490
    kept = train[:cut].tolist()
    weight = result["bigram, interpolation weight"]
    total = unigrams = 0.0
    for before, after in itertools.pairwise(validation.tolist()):
        row = kept[:-1].count(before)
        both = sum(pair == (before, after) for pair in itertools.pairwise(kept))
        single = (kept.count(after) + 1) / (cut + size)
        total -= np.log(weight * both / max(row, 1) + (1 - weight) * single)
        unigrams -= np.log((train.tolist().count(after) + 1) / (500 + size))
    assert result["bigram, interpolated"] == pytest.approx(total / (len(validation) - 1))
    assert result["unigram"] == pytest.approx(unigrams / (len(validation) - 1))
    assert 0 < weight < 1


def test_fit_weight_finds_the_best_mixture() -> None:
    generator = np.random.default_rng(4)
    one, two = generator.random(200), generator.random(200)
    weight = ngrams.fit_weight(one, two, steps=500)
    grid = np.linspace(0.001, 0.999, 999)
    best = grid[np.argmin([-np.log(value * one + (1 - value) * two).mean() for value in grid])]
    assert weight == pytest.approx(best, abs=0.01)


def test_kneser_ney_sums_to_one() -> None:
    size = 9
    train = np.random.default_rng(5).integers(0, size - 1, 80).astype(np.uint16)
    for before in range(size):
        rows = [np.array([before, after], np.uint16) for after in range(size)]
        assert sum(np.exp(-ngrams.kneser_ney_bigram(train, row, size)) for row in rows) == pytest.approx(1)


def test_word_vectors_are_exported_and_read_back(tmp_path: Path) -> None:
    pytest.importorskip("gensim")
    word_vectors = pytest.importorskip("pretraining.word_vectors")
    text = "He said, “It\u2019s Dr. Smith\u2019s U.S. firm—not 1,000 of O'Connor's; 4.6% at A$4.56. They didn't.\""
    expected = (
        "he said , \" it 's dr. smith 's u.s. firm -- not 1,000 of o 'connor 's ; 4.6 % at a $ 4.56 . they didn 't . \""
    )
    assert " ".join(word_vectors.words(text)) == expected
    assert word_vectors.write_tokens(iter([[text] * 20]), tmp_path / "tokens.txt") == 20 * len(expected.split())
    options: dict[str, object] = {
        "skip_gram": True,
        "window": 2,
        "negative": 2,
        "epochs": 1,
        "min_count": 1,
        "workers": 1,
    }
    options |= {"sample": 1e-3, "alpha": 0.025, "ns_exponent": 0.75}
    options |= {"tokens": tmp_path / "tokens.txt", "out": tmp_path / "trained.npz"}
    word_vectors.train(argparse.Namespace(**options))
    out = tmp_path / "vectors.safetensors"
    word_vectors.export(
        argparse.Namespace(vectors=tmp_path / "trained.npz", out=out, top=[0], unit=True, note="a test")
    )
    keyed = word_vectors.load(out)
    names, vectors = word_vectors.read_trained(tmp_path / "trained.npz")
    assert keyed.index_to_key == names
    assert np.allclose(keyed.vectors, word_vectors.post_treat(vectors, 0, unit=True), atol=1e-3)
    assert np.allclose(keyed.vectors.mean(axis=0), 0, atol=1e-3)
