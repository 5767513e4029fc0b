"""Tokenizers: what they produce, and that a tokenizer of another model is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from rwkv_sweep.errors import UserError
from rwkv_sweep.models.pretrained.tokenizers import FEW, load_tokenizer

TEXTS = ["Hello world", "", "é\x00日本 😀", "a  b\n\nc\t\r\n 1234,567.89"]


def write_tokenizer(path: Path, truncate: bool = False) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "hello": 1, "world": 2, "[BOS]": 41}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(single="[BOS] $A", special_tokens=[("[BOS]", 41)])
    if truncate:
        tokenizer.enable_truncation(1)
        tokenizer.enable_padding(length=8)
    tokenizer.save(str(path))
    return path


def test_world_agrees_with_the_authors_tokenizer() -> None:
    rwkv = pytest.importorskip("rwkv")
    from rwkv.rwkv_tokenizer import TRIE_TOKENIZER

    author = TRIE_TOKENIZER(str(Path(rwkv.__path__[0]) / "rwkv_vocab_v20230424.txt"))
    world = load_tokenizer("world", None, 65536)
    assert world.encode(TEXTS) == [author.encode(text) for text in TEXTS]
    assert world.vocab_size == 65530 and world.name == "world" and len(world.fingerprint) == 16


@pytest.mark.parametrize("spec", ["world", "json"])
def test_few_sentences_get_the_ids_that_they_have_among_many(spec: str, tmp_path: Path) -> None:
    path = write_tokenizer(tmp_path / "tokenizer.json")
    tokenizer = load_tokenizer(str(path) if spec == "json" else spec, None, 65536)
    assert tokenizer.encode(TEXTS * FEW) == [tokenizer.encode([text])[0] for text in TEXTS] * FEW
    assert any(tokenizer.encode(TEXTS))


def test_bytes_are_the_utf8_of_the_text() -> None:
    tokenizer = load_tokenizer("bytes", None, 256)
    assert tokenizer.encode(["aé", ""]) == [[97, 195, 169], []]
    assert tokenizer.vocab_size == 256


def test_json_adds_no_special_tokens_and_neither_pads_nor_truncates(tmp_path: Path) -> None:
    path = write_tokenizer(tmp_path / "tokenizer.json", truncate=True)
    tokenizer = load_tokenizer(str(path), None, 42)
    assert tokenizer.encode(["hello world hello", "", "what"]) == [[1, 2, 1], [], [0]]
    assert tokenizer.vocab_size == 42


def test_json_beside_the_weights_is_found(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "tokenizer.json")
    assert load_tokenizer(None, tmp_path, 42).encode(["world"]) == [[2]]


def test_fingerprint_follows_the_content(tmp_path: Path) -> None:
    plain = load_tokenizer(str(write_tokenizer(tmp_path / "a.json")), None, 42)
    same = load_tokenizer(str(write_tokenizer(tmp_path / "b.json")), None, 42)
    other = load_tokenizer(str(write_tokenizer(tmp_path / "c.json", truncate=True)), None, 42)
    assert plain.fingerprint == same.fingerprint != other.fingerprint


@pytest.mark.parametrize(("spec", "table"), [("world", 65529), ("bytes", 255)])
def test_a_vocabulary_larger_than_the_table_is_refused(spec: str, table: int) -> None:
    with pytest.raises(UserError, match=rf"model.tokenizer={spec} has ids up to {table}.*has {table} rows"):
        load_tokenizer(spec, None, table)


@pytest.mark.parametrize("spec", ["world", "bytes"])
def test_a_lone_surrogate_is_refused(spec: str) -> None:
    with pytest.raises(UserError, match="sentence 1 of the batch is not valid Unicode"):
        load_tokenizer(spec, None, 65536).encode(["fine", "broken \ud83d"])


def test_none_named_none_found(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no tokenizer.json in .*set model.tokenizer=world"):
        load_tokenizer(None, tmp_path, 256)
    with pytest.raises(UserError, match=r"no tokenizer.json beside the weights: set model.tokenizer=world"):
        load_tokenizer(None, None, 256)


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model.tokenizer=gpt2 does not exist: valid is world, bytes"):
        load_tokenizer("gpt2", None, 256)
    damaged = tmp_path / "tokenizer.json"
    damaged.write_text('{"model":')
    with pytest.raises(UserError, match=r"tokenizer.json is not a tokenizer.json that can be read"):
        load_tokenizer(str(damaged), None, 256)
