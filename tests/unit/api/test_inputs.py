"""What may be handed to the Python encoder as texts, prompts, counts and arguments, and how the rest is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from rwkv_sweep.api.inputs import as_texts, refuse_unknown, require_count
from rwkv_sweep.api.reading import check_prompts, chosen_prompt
from rwkv_sweep.data.text_column import Texts
from rwkv_sweep.errors import UserError


def columns_of_pandas() -> Any:
    import pandas as pd

    return pd.DataFrame({"sentence": ["a", "b"], "label": [0, 1]})


def dataset() -> Any:
    from datasets import Dataset

    return Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]})


def loader() -> Any:
    from torch.utils.data import DataLoader

    return DataLoader(dataset(), batch_size=2)


@pytest.mark.parametrize(
    ("given", "texts", "single"),
    [
        ("cat", ["cat"], True),
        (np.str_("cat"), ["cat"], True),
        (np.array("cat"), ["cat"], True),
        ({"text": "cat"}, ["cat"], True),
        ({"text": ["a", "b"]}, ["a", "b"], False),
        ([], [], False),
        (["a", "", " "], ["a", "", " "], False),
        (("a", "b"), ["a", "b"], False),
        ((text for text in "ab"), ["a", "b"], False),
        ({"a": 1, "b": 2}.keys(), None, False),
        (np.array(["a", "b"]), ["a", "b"], False),
        (np.array(["a", "b"], dtype=object), ["a", "b"], False),
        (Texts.of(["a", "b"]), ["a", "b"], False),
        ([{"text": "cat"}], ["cat"], False),
        ([{"text": "cat"}, {"text": ["a", "b"]}, "c"], ["cat", "a", "b", "c"], False),
        ([{"text": ("a", "b"), "label": [0, 1]}], ["a", "b"], False),
        ([{"text": []}], [], False),
        (dataset, ["a", "b"], False),
        (lambda: dataset()["text"], ["a", "b"], False),
        (lambda: columns_of_pandas()["sentence"], ["a", "b"], False),
        (loader, ["a", "b"], False),
    ],
)
def test_texts(given: Any, texts: list[str] | None, single: bool) -> None:
    given = given() if callable(given) else given
    if texts is None:
        with pytest.raises(TypeError, match="whose order is not defined"):
            as_texts(given)
        return
    actual, alone = as_texts(given)
    assert actual == texts and alone is single and all(type(text) is str for text in actual)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "sentences=None is of type NoneType: valid are a string, a list of strings"),
        (3, "sentences=3 is of type int: valid are a string"),
        (b"cat", "sentences is of type bytes, not text: decode it"),
        (bytearray(b"cat"), "sentences is of type bytearray, not text"),
        ({"a", "b"}, "sentences is of type set, whose order is not defined"),
        (columns_of_pandas, "sentences is of type DataFrame, with several columns: give the one that holds the texts"),
        (["a", None], "sentences[1] is None (NoneType), not a text"),
        (["a", "b", float("nan")], "sentences[2] is nan (float), not a text"),
        ([np.nan], "sentences[0] is nan (float), not a text"),
        (["a", b"b"], "sentences[1] is b'b' (bytes), not a text"),
        ([1], "sentences[0] is 1 (int), not a text"),
        ([["a", "b"]], "sentences[0] is ['a', 'b'] (list), not a text"),
        ([("a", "b")], "sentences[0] is ('a', 'b') (tuple), not a text"),
        (np.array([["a", "b"]]), "(ndarray), not a text"),
        (np.array(3), "sentences=3 is of type int"),
        ([{"text": ["a", None]}], "sentences[1] is None (NoneType)"),
        (["a", {"text": None}], "sentences[1] is None (NoneType)"),
        ([{"image": 3}], "sentences[0] has no `text`, but 'image'"),
        ([{}], "sentences[0] has no `text`, but nothing"),
        ({"sentence": "a"}, "sentences[0] has no `text`, but 'sentence'"),
    ],
)
def test_what_is_no_text(given: Any, message: str) -> None:
    with pytest.raises(TypeError) as caught:
        as_texts(given() if callable(given) else given)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_lone_surrogates_are_named_by_their_index() -> None:
    with pytest.raises(UserError, match=r"sentences\[2\]=.* is not valid Unicode: valid is text without lone surrog"):
        as_texts(["fine", "é", "a\ud800"])


def test_a_long_value_is_shown_short() -> None:
    with pytest.raises(TypeError) as caught:
        as_texts([list(range(10_000))])
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("layer", "did you mean layers? valid are layers, normalize_embeddings"),
        ("normalize", "did you mean normalize_embeddings?"),
        ("normalise_embeddings", "did you mean normalize_embeddings?"),
        ("pooling", 'it is chosen with the encoder, Encoder.from_config("pooling=...")'),
        ("max_tokens", "it is chosen with the encoder"),
        ("zzz", "zzz: valid are layers, normalize_embeddings"),
    ],
)
def test_unknown_arguments(name: str, message: str) -> None:
    refuse_unknown("encode", {}, ["layers"])
    with pytest.raises(TypeError) as caught:
        refuse_unknown("encode", {name: 1}, ["layers", "normalize_embeddings"])
    assert str(caught.value).startswith(f"encode has no argument {name}: ") and message in str(caught.value)


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "3", np.float64(2)])
def test_counts_that_are_none(value: Any) -> None:
    for valid in (None, 1, 7, np.int64(3)):
        require_count("batch_size", valid, 7)
    with pytest.raises(UserError, match=r"batch_size=.* is not valid: valid are 1 or more"):
        require_count("batch_size", value)
    with pytest.raises(UserError, match="truncate_dim=8 is not valid: valid are 1 to 7"):
        require_count("truncate_dim", 8, 7)


PROMPTS = {"query": "Q: ", "passage": "P: "}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((None, None, None), ""),
        (("Say: ", None, None), "Say: "),
        (("Say: ", None, "query"), "Say: "),
        (("", None, "query"), ""),
        ((None, "passage", "query"), "P: "),
        ((None, None, "query"), "Q: "),
        ((None, None, "document"), "P: "),
    ],
)
def test_prompts(arguments: tuple[Any, Any, Any], expected: str) -> None:
    assert chosen_prompt(check_prompts(PROMPTS), *arguments) == expected


def test_a_kind_without_a_prompt_has_none() -> None:
    from enum import Enum

    kind = Enum("PromptType", {"query": "query"})
    assert chosen_prompt({}, None, None, "document") == ""
    assert chosen_prompt(PROMPTS, None, None, kind["query"]) == "Q: ", "mteb's kinds are members of an Enum"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: chosen_prompt(PROMPTS, "Say: ", "query", None),
            "prompt='Say: ' and prompt_name='query': valid is one",
        ),
        (
            lambda: chosen_prompt(PROMPTS, None, "Query", None),
            "prompt_name='Query' is not known: valid are query, pass",
        ),
        (
            lambda: chosen_prompt({}, None, "query", None),
            "prompt_name='query' is not known: valid are none, as the enc",
        ),
        (lambda: chosen_prompt({}, None, None, "title"), "prompt_type=title is not known: valid are query, document"),
        (lambda: chosen_prompt({}, "He said: {sentence}", None, None), "is a template: valid is a text that is put be"),
        (lambda: chosen_prompt({}, 3, None, None), "prompt=3 is not valid: valid is a text"),  # type: ignore[arg-type]
        (lambda: check_prompts({"query": None}), "prompts['query']=None is not valid"),  # type: ignore[dict-item]
        (lambda: check_prompts(["Q: "]), "prompts=['Q: '] is not valid: valid are texts by name"),  # type: ignore[arg-type]
    ],
)
def test_prompts_that_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises((TypeError, UserError)) as caught:
        call()
    assert message in str(caught.value)
