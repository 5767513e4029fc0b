"""What is read in place of a sentence and which tokens of it are pooled, with tokenizers of three kinds."""

from __future__ import annotations

from pathlib import Path

import pytest

from rwkv_sweep.config.schema import PromptConfig
from rwkv_sweep.embedding.prompts import Tokenized, tokenize
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.pretrained.tokenizers import BytesTokenizer, JsonTokenizer, Tokenizer, WorldTokenizer

SENTENCES = ["The cat sat on the mat.", "A", "Ünïcödé 1234!", " two  spaces "]
BARE = PromptConfig("none")
ECHO = PromptConfig("echo", "{sentence} {sentence}", "second")
WRAPPED_ECHO = PromptConfig("echo", "Say: {sentence} Again: {sentence} Done.", "second")
ONE_WORD = PromptConfig("one_word", 'This sentence: "{sentence}" means in one word:')


def json_tokenizer(folder: Path) -> Tokenizer:
    """A byte-level BPE whose tokens reach across spaces, as those of most models do."""
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, trainers

    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    backend.train_from_iterator([*SENTENCES, "the cat sat on the mat " * 3], trainer)
    backend.save(str(folder / "tokenizer.json"))
    return JsonTokenizer(folder / "tokenizer.json")


def text_of(tokenizer: Tokenizer, ids: list[int]) -> str:
    if isinstance(tokenizer, BytesTokenizer):
        return bytes(ids).decode()
    if isinstance(tokenizer, WorldTokenizer):
        return str(tokenizer._trie.decode(ids))
    assert isinstance(tokenizer, JsonTokenizer)
    return str(tokenizer._backend.decode(ids))


@pytest.fixture(params=["bytes", "world", "json"])
def tokenizer(request: pytest.FixtureRequest, tmp_path: Path) -> Tokenizer:
    if request.param == "json":
        return json_tokenizer(tmp_path)
    return BytesTokenizer() if request.param == "bytes" else WorldTokenizer()


@pytest.mark.parametrize("prompt", [BARE, ONE_WORD], ids=lambda prompt: prompt.name)
def test_all_is_the_whole_text(tokenizer: Tokenizer, prompt: PromptConfig) -> None:
    actual = tokenize(prompt, tokenizer, SENTENCES, 512)
    assert actual.ids == tokenizer.encode([prompt.template.format(sentence=sentence) for sentence in SENTENCES])
    assert actual.spans == [(0, len(ids)) for ids in actual.ids]
    assert actual.truncated == 0 and actual.tokens == sum(len(ids) for ids in actual.ids)


@pytest.mark.parametrize("prompt", [ECHO, WRAPPED_ECHO], ids=["echo", "wrapped"])
def test_second_is_the_second_copy_to_the_token(tokenizer: Tokenizer, prompt: PromptConfig) -> None:
    actual = tokenize(prompt, tokenizer, SENTENCES, 512)
    bare = tokenizer.encode(SENTENCES)
    for sentence, ids, (start, end), own in zip(SENTENCES, actual.ids, actual.spans, bare, strict=True):
        assert text_of(tokenizer, ids) == prompt.template.format(sentence=sentence)
        assert ids[start:end] == own
        before = prompt.template[: prompt.template.rindex("{sentence}")].format(sentence=sentence)
        assert text_of(tokenizer, ids[:start]) == before


@pytest.mark.parametrize("prompt", [ECHO, WRAPPED_ECHO, ONE_WORD], ids=["echo", "wrapped", "one_word"])
def test_truncation_cuts_sentences_and_never_the_template(tokenizer: Tokenizer, prompt: PromptConfig) -> None:
    sentences = ["one two three four five six seven eight nine ten", "A"]
    pieces = tokenizer.encode(prompt.template.split("{sentence}"))
    copies = len(pieces) - 1
    longest = sum(map(len, pieces)) + 4 * copies + (copies - 1)  # four tokens of each copy, and what does not go round
    actual = tokenize(prompt, tokenizer, sentences, longest)
    kept = tokenizer.encode(sentences)[0][:4]
    expected = list(pieces[0])
    for piece in pieces[1:]:
        expected += kept + piece
    assert actual.ids[0] == expected and len(expected) <= longest
    assert actual.truncated == 1
    assert actual.ids[1] == tokenize(prompt, tokenizer, ["A"], 512).ids[0]
    start, end = actual.spans[0]
    assert actual.ids[0][start:end] == (kept if prompt.span == "second" else expected)


def test_bare_sentences_lose_their_end() -> None:
    actual = tokenize(BARE, BytesTokenizer(), ["abcdef", "abc"], 3)
    assert actual.ids == [list(b"abc"), list(b"abc")]
    assert actual.spans == [(0, 3), (0, 3)] and actual.truncated == 1


def test_one_token_of_each_copy_is_the_least() -> None:
    assert tokenize(ECHO, BytesTokenizer(), ["abc"], 3).ids == [list(b"a a")]
    with pytest.raises(UserError) as caught:
        tokenize(ECHO, BytesTokenizer(), ["abc"], 2)
    assert str(caught.value) == (
        "max_tokens=2 leaves no room for a sentence beside the 1 tokens of prompt.template={sentence} {sentence}: "
        "valid is 3 or more"
    )


@pytest.mark.parametrize("prompt", [BARE, ONE_WORD, ECHO], ids=lambda prompt: prompt.name)
def test_sentence_without_tokens(prompt: PromptConfig) -> None:
    with pytest.raises(UserError) as caught:
        tokenize(prompt, BytesTokenizer(), ["fine", ""], 512)
    assert str(caught.value) == "sentence '' has no tokens in tokenizer bytes"


def test_braces_in_a_sentence_are_text() -> None:
    actual = tokenize(ECHO, BytesTokenizer(), ["a {sentence} {0}"], 512)
    assert bytes(actual.ids[0]).decode() == "a {sentence} {0} a {sentence} {0}"
    assert bytes(tokenize(ONE_WORD, BytesTokenizer(), ["{sentence}"], 512).ids[0]).count(b"{sentence}") == 1


def test_some_of_the_sentences() -> None:
    actual = tokenize(ECHO, BytesTokenizer(), ["ab", "c", "def"], 512)
    part = actual.select([2, 0])
    assert part.ids == [list(b"def def"), list(b"ab ab")] and part.spans == [(4, 7), (3, 5)]


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [2], [3, 1], [1, 1, 0], []])
def test_packed_ids_are_those_of_the_rows_end_to_end(rows: list[int]) -> None:
    ids = [[5], [1, 2, 3], [9, 9], [4, 0, 7, 7]]
    tokenized = Tokenized(ids, [(0, len(row)) for row in ids], 0)
    assert tokenized.packed_ids(rows).tolist() == [token for row in rows for token in ids[row]]
    assert tokenized.select(rows).packed_ids(range(len(rows))).tolist() == tokenized.packed_ids(rows).tolist()
