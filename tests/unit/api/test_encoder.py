"""The Python API, on the embedded model."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

import rwkv_sweep
from rwkv_sweep import Encoder
from rwkv_sweep.config.hydra_store import conf_dir
from rwkv_sweep.embedding.postprocessing import fit
from rwkv_sweep.errors import UserError
from rwkv_sweep.evaluation.metrics import cosine
from rwkv_sweep.evaluation.output_formats import ranges

SENTENCES = ["A cat sleeps on the mat.", "The cat is asleep.", "Prices rose by 3 percent in May."]
CORPUS = [
    f"{who} {what}" for who in ("A cat", "The bank", "Rain", "She", "No one") for what in ("slept.", "rose in May.")
]
SMALL = (
    "model=random",
    "model.tokenizer=bytes",
    "model.hidden_size=32",
    "model.num_blocks=2",
    "model.head_size=8",
    "model.intermediate_size=64",
    "model.vocab_size=256",
    "device=cpu",
)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.from_config("layer=[3,5]", "aggregation=mean", "device=cpu")


@pytest.fixture(scope="module")
def small() -> Encoder:
    return Encoder.from_config(*SMALL, prompts={"query": "Q: ", "passage": "P: "}, corpus=CORPUS)


def test_vectors_are_those_of_the_layers(encoder: Encoder) -> None:
    vectors_SD = encoder.encode(SENTENCES)
    layers_LSD = encoder.encode_layers(SENTENCES, [3, 5])
    unit_LSD = layers_LSD / np.linalg.norm(layers_LSD, axis=-1, keepdims=True)
    assert vectors_SD.shape == (3, 256) and vectors_SD.dtype == np.float32
    np.testing.assert_allclose(vectors_SD, unit_LSD.mean(0), atol=1e-6)
    # As text or as mteb's batches, a sentence has the same vector.
    batches: list[dict[str, Any]] = [{"text": SENTENCES[:2]}, {"text": SENTENCES[2:]}]
    actual_SD = encoder.encode(batches, task_metadata=None, hf_split="test", hf_subset="default")
    np.testing.assert_allclose(actual_SD, vectors_SD, atol=1e-6)
    assert encoder.encode(SENTENCES[0]).shape == (256,)
    assert encoder.encode([SENTENCES[0]]).shape == encoder.encode([{"text": SENTENCES[0]}]).shape == (1, 256)
    assert encoder.encode({"text": SENTENCES[0]}).shape == (256,) and encoder.encode([]).shape == (0, 256)


def test_layers_of_one_call(encoder: Encoder) -> None:
    assert encoder.encode_layers(SENTENCES).shape == (12, 3, 256) and encoder.num_blocks == 12
    assert encoder.encode_layers(SENTENCES[0]).shape == (12, 1, 256)
    unit_SD = encoder.encode_layers(SENTENCES, "final")[0]
    unit_SD = unit_SD / np.linalg.norm(unit_SD, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode(SENTENCES, layers="final"), unit_SD, atol=1e-6)
    for layers in (np.arange(2, 4), range(2, 4), [np.int64(2), 3]):
        np.testing.assert_array_equal(encoder.encode(SENTENCES, layers), encoder.encode(SENTENCES, [2, 3]))


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
    bits = encoder.encode(SENTENCES, precision="binary")
    assert bits.shape == (3, 32) and bits.dtype == np.int8
    with pytest.raises(TypeError, match="packed bits have no cosine"):
        encoder.similarity(bits, bits)


def test_finished_as_sentence_transformers_does(small: Encoder) -> None:
    plain_SD = small.encode(SENTENCES)
    cut_SD = small.encode(SENTENCES, truncate_dim=np.int64(5), normalize_embeddings=True)
    first_SD = plain_SD[:, :5] / np.linalg.norm(plain_SD[:, :5], axis=1, keepdims=True)
    np.testing.assert_allclose(cut_SD, first_SD, rtol=1e-6)
    np.testing.assert_array_equal(small.encode(SENTENCES, precision="ubinary"), np.packbits(plain_SD > 0, axis=1))
    tensor_SD = small.encode(SENTENCES, convert_to_tensor=True)
    assert isinstance(tensor_SD, torch.Tensor) and tensor_SD.device == small.device
    np.testing.assert_array_equal(tensor_SD.numpy(), plain_SD)
    listed = small.encode(SENTENCES, convert_to_numpy=False)
    assert isinstance(listed, list) and len(listed) == 3 and all(isinstance(row, torch.Tensor) for row in listed)
    assert small.encode(SENTENCES[0], convert_to_tensor=True).shape == (32,)


def test_ranges_are_those_of_the_corpus(small: Encoder) -> None:
    for arguments in ({}, {"normalize_embeddings": True}, {"truncate_dim": 7}, {"layers": 0}, {"prompt": "Q: "}):
        low, high = ranges(small.encode(CORPUS, **arguments))
        actual_SD = small.encode(SENTENCES, precision="int8", **arguments).astype(int)
        expected_SD = (small.encode(SENTENCES, **arguments) - low) / ((high - low) / 255) - 128
        inside = (expected_SD > -128) & (expected_SD < 127)
        assert inside.any() and np.abs(actual_SD - np.floor(expected_SD))[inside].max() <= 1
    with pytest.raises(UserError, match=r"precision=int8 needs texts that show each dimension's range: give the encod"):
        Encoder.from_config(*SMALL).encode(SENTENCES, precision="int8")


def test_prompts(small: Encoder) -> None:
    queries_SD, passages_SD, plain_SD = (
        small.encode([before + text for text in SENTENCES]) for before in ("Q: ", "P: ", "")
    )
    assert np.abs(queries_SD - passages_SD).max() > 0.01
    for actual_SD, expected_SD in (
        (small.encode(SENTENCES, prompt="Q: "), queries_SD),
        (small.encode(SENTENCES, prompt_name="query"), queries_SD),
        (small.encode(SENTENCES, prompt_type="query"), queries_SD),
        (small.encode_query(SENTENCES), queries_SD),
        (small.encode_document(SENTENCES), passages_SD),
        (small.encode_query(SENTENCES, prompt="P: "), passages_SD),
        (small.encode_query(SENTENCES, prompt_name="passage"), passages_SD),
        (small.encode_query(SENTENCES, prompt=""), plain_SD),
        (small.encode_layers(SENTENCES, "final", prompt_name="query")[0], queries_SD),
    ):
        np.testing.assert_allclose(actual_SD, expected_SD, atol=1e-6)
    assert small.encode_query(SENTENCES[0], 0, convert_to_tensor=True).shape == (32,)
    np.testing.assert_allclose(Encoder.from_config(*SMALL).encode_query(SENTENCES), plain_SD, atol=1e-6)


def test_texts_without_tokens(small: Encoder) -> None:
    texts = ["", SENTENCES[0], "", SENTENCES[1]]
    for method in (small.encode, small.encode_layers, small.encode_query):
        with pytest.raises(
            UserError, match=r"sentences\[0\]='' has no tokens: valid are texts that have some, or on_emp"
        ):
            method(texts)
    actual_SD = small.encode(texts, on_empty="zero", normalize_embeddings=True, prompt="Q: ")
    assert not actual_SD[[0, 2]].any()
    expected_SD = small.encode(SENTENCES[:2], normalize_embeddings=True, prompt="Q: ")
    np.testing.assert_allclose(actual_SD[[1, 3]], expected_SD, atol=1e-6)
    layers_LSD = small.encode_layers(texts, on_empty="zero")
    assert layers_LSD.shape == (2, 4, 32) and not layers_LSD[:, [0, 2]].any() and layers_LSD[:, [1, 3]].all(-1).all()
    assert not small.encode("", on_empty="zero").any() and small.encode(["", ""], on_empty="zero").shape == (2, 32)


def test_texts_of_which_a_tokenizer_makes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Encoder.from_config(*SMALL)
    monkeypatch.setattr("rwkv_sweep.embedding.layer_encoder.SENTENCES_AT_A_TIME", 2)
    tokenizer = small._fitted.encoder.loaded.tokenizer
    whole = tokenizer.encode
    monkeypatch.setattr(tokenizer, "encode", lambda texts: [ids if b"x"[0] not in ids else [] for ids in whole(texts)])
    texts = ["a", "b", "x", "c", "", "xx", "d", "x"]
    with pytest.raises(UserError, match=r"sentences\[2\]='x' has no tokens"):
        small.encode(["a", "b", "x", "c"])
    actual_SD = small.encode(texts, on_empty="zero")
    assert actual_SD.any(1).tolist() == [text not in ("x", "", "xx") for text in texts]
    np.testing.assert_allclose(actual_SD[[0, 1, 3, 6]], small.encode(["a", "b", "c", "d"]), atol=1e-6)


def test_idf_counts_in_named_texts_and_not_in_those_of_a_call(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"pooling=idf needs texts in which to count tokens: valid are pooling\.fit="):
        Encoder.from_config("pooling=idf", "device=cpu")
    (tmp_path / "corpus.txt").write_text("\n".join(CORPUS))
    named = ["layer=3", "pooling=idf", "device=cpu"]
    by_file = Encoder.from_config(*named, f"pooling.corpus={tmp_path / 'corpus.txt'}").encode(SENTENCES)
    by_list = Encoder.from_config(*named, corpus=CORPUS).encode(SENTENCES)
    by_split = Encoder.from_config(*named, "pooling.fit=train").encode(SENTENCES)
    np.testing.assert_allclose(by_list, by_file, atol=1e-6)
    assert np.abs(by_split - by_file).max() > 1e-3
    mean = Encoder.from_config("layer=3", "device=cpu").encode(SENTENCES)
    assert np.abs(by_file - mean).max() > 0.01, "the weights do something"


def test_post_processing_is_fitted_on_the_corpus() -> None:
    plain = Encoder.from_config(*SMALL)
    whitened = Encoder.from_config(*SMALL, "postprocess=whiten", corpus=CORPUS)
    for layers in ("final", 0):
        expected_SD = fit("whiten", plain.encode(CORPUS, layers)).apply(plain.encode(SENTENCES, layers))
        np.testing.assert_allclose(whitened.encode(SENTENCES, layers), expected_SD, atol=1e-3)
    assert whitened.get_sentence_embedding_dimension() == whitened.encode(SENTENCES).shape[1] == len(CORPUS) // 2
    np.testing.assert_allclose(whitened.encode_layers(SENTENCES), plain.encode_layers(SENTENCES), atol=1e-6)


@pytest.mark.parametrize(
    ("overrides", "dimension"),
    [
        (("layer=0",), 32),
        (("layer=[1,0]", "aggregation=mean"), 32),
        (("layer=[1,0]", "aggregation=concat"), 64),
        (("layer=0", "pooling=state"), 4 * 8 * 8),
    ],
)
def test_dimension_and_repr(overrides: tuple[str, ...], dimension: int) -> None:
    actual = Encoder.from_config(*SMALL, *overrides)
    assert actual.get_sentence_embedding_dimension() == actual.get_embedding_dimension() == dimension
    assert actual.encode(SENTENCES).shape == (3, dimension)
    assert actual.device == torch.device("cpu")
    shown = "1+0" if "layer=[1,0]" in overrides else "0"
    assert repr(actual).startswith(
        f"Encoder(model=random, layer={shown}, pooling="
    ) and f"dimension={dimension})" in repr(actual)
    assert ("aggregation=" in repr(actual)) == ("aggregation" in str(overrides)) and "\n" not in repr(actual)


REFUSED: dict[str, tuple[Callable[[Encoder], Any], str]] = {
    "layer that is not there": (lambda e: e.encode(SENTENCES, layers="12x"), "layer=12x is not a layer"),
    "layer": (lambda e: e.encode(SENTENCES, layer=1), "encode has no argument layer: did you mean layers? valid are"),
    "pooling": (lambda e: e.encode(SENTENCES, pooling="max"), 'chosen with the encoder, Encoder.from_config("pooling='),
    "normalize": (lambda e: e.encode(SENTENCES, normalize=True), "did you mean normalize_embeddings?"),
    "device": (
        lambda e: e.encode(SENTENCES, device="cuda"),
        "encode has no argument device: it is chosen with the enc",
    ),
    "output_value": (
        lambda e: e.encode(SENTENCES, output_value=None),
        "encode has no argument output_value: valid are",
    ),
    "of layers": (lambda e: e.encode_layers(SENTENCES, layer=1), "encode_layers has no argument layer: did you mean"),
    "of queries": (lambda e: e.encode_query(SENTENCES, pool=None), "encode_query has no argument pool: "),
    "of documents": (lambda e: e.encode_document(SENTENCES, layer=1), "encode_document has no argument layer: did"),
    "the model's precision": (
        lambda e: e.encode(SENTENCES, precision="fp16"),
        "precision=fp16 is not known: valid are f",
    ),
    "truncate_dim": (lambda e: e.encode(SENTENCES, truncate_dim=33), "truncate_dim=33 is not valid: valid are 1 to 32"),
    "batch_size": (lambda e: e.encode(SENTENCES, batch_size=0), "batch_size=0 is not valid: valid are 1 or more"),
    "on_empty": (lambda e: e.encode(SENTENCES, on_empty="skip"), "on_empty=skip is not known: valid are error, zero"),
    "None": (lambda e: e.encode([SENTENCES[0], None]), "sentences[1] is None (NoneType), not a text"),
    "several layers": (lambda e: e.encode(SENTENCES, [0, 1]), "aggregation=none takes one layer"),
    "a list": (lambda e: Encoder.from_config(["layer=3"]), "from_config takes each override as an argument of its own"),  # type: ignore[arg-type]
    "a number": (lambda e: Encoder.from_config(3), "from_config takes overrides as text"),  # type: ignore[arg-type]
    "a keyword": (lambda e: Encoder.from_config(layer=3), 'from_config takes overrides as text: write "layer=3"'),
    "an override to the class": (
        lambda e: Encoder("layer=3"),
        "Encoder takes a RunConfig, not 'layer=3': use Encoder.",
    ),  # type: ignore[arg-type]
    "a key that is nearly one": (
        lambda e: Encoder.from_config("layers=3"),
        "layers is not a key: did you mean layer? v",
    ),
    "an option": (
        lambda e: Encoder.from_config("pooling=men"),
        "pooling=men is not known: valid are eos, first_last, idf",
    ),
    "a sweep": (
        lambda e: Encoder.from_config("layer=1,3"),
        "layer=1,3 is a sweep of several values, and an encoder has",
    ),
    "a flag": (lambda e: Encoder.from_config("-m", "layer=1"), "-m cannot be read"),
    "no value": (lambda e: Encoder.from_config("layer"), "layer cannot be read"),
    "several layers of a config": (
        lambda e: Encoder.from_config(*SMALL, "layer=[0,1]"),
        "aggregation=none takes one l",
    ),
    "nothing to fit on": (
        lambda e: Encoder.from_config(*SMALL, "postprocess=whiten"),
        "postprocess=whiten needs texts to",
    ),
    "scored sentences to fit on": (
        lambda e: Encoder.from_config(*SMALL, "postprocess=whiten", "postprocess.fit=test"),
        "no sentence that is not scored too, by dataset.splits=[test]: valid is another split; null fits a run on the",
    ),
    "two to fit on": (
        lambda e: Encoder.from_config(*SMALL, "pooling=idf", "pooling.fit=all", corpus=CORPUS),
        "pooling.fit=all and the argument corpus: valid is one of the two",
    ),
    "two to fit post-processing on": (
        lambda e: Encoder.from_config(*SMALL, "postprocess=center", "postprocess.fit=all", corpus=CORPUS),
        "postprocess.fit=all and the argument corpus: valid is one",
    ),
    "an empty corpus": (lambda e: Encoder.from_config(*SMALL, corpus=["", " "]), "corpus holds no text"),
    "a corpus of numbers": (lambda e: Encoder.from_config(*SMALL, corpus=[1]), "is 1 (int), not a text"),  # type: ignore[list-item]
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(small: Encoder, name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises((TypeError, UserError)) as caught:
        call(small)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Decoder'"):
        rwkv_sweep.Decoder  # noqa: B018


def test_arguments_are_those_of_sentence_transformers() -> None:
    """The ones that are not here are refused by name, see above."""
    theirs = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    own = set(inspect.signature(Encoder.encode).parameters)
    for method in ("encode", "encode_query", "encode_document"):
        names = set(inspect.signature(getattr(theirs.SentenceTransformer, method)).parameters)
        assert names - own <= {"inputs", "kwargs", "output_value", "device", "pool", "chunk_size"}
    for name in ("similarity", "similarity_pairwise", "get_embedding_dimension", "device", "prompts"):
        assert hasattr(theirs.SentenceTransformer, name) or name == "prompts"


def test_progress_is_shown_where_asked_for(small: Encoder, capsys: pytest.CaptureFixture[str]) -> None:
    small.encode(SENTENCES)
    assert capsys.readouterr().err == ""
    small.encode(SENTENCES, show_progress_bar=True)
    assert "3/3" in capsys.readouterr().err


def test_batches_are_no_larger_than_asked_for(small: Encoder) -> None:
    sizes: list[int] = []
    handle = small._fitted.encoder.loaded.model.register_forward_hook(
        lambda _, given, __: sizes.append(len(given[1].lengths))
    )
    small.encode(SENTENCES * 3)
    small.encode(SENTENCES * 3, batch_size=4)
    handle.remove()
    assert sizes == [9, 4, 4, 1]


def test_a_program_that_uses_hydra_keeps_its_own_state(tmp_path: Path) -> None:
    with initialize_config_dir(version_base=None, config_dir=str(conf_dir())):
        before = GlobalHydra.instance().hydra
        assert Encoder.from_config(*SMALL, "pooling=max").encode(SENTENCES).shape == (3, 32)
        with pytest.raises(UserError):
            Encoder.from_config("layers=3")
        assert GlobalHydra.instance().hydra is before
