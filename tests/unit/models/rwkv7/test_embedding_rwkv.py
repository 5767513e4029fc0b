"""EmbeddingRWKV: the authors' package and evaluation code give the same numbers; its checkpoint is recognized by its
content, and what it cannot do is refused in one line."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rwkv_sweep import Encoder
from rwkv_sweep.config.layer_spec import EMBEDDING
from rwkv_sweep.config.schema import AggregationConfig, ModelConfig, PostprocessConfig, PrecisionConfig, PromptConfig
from rwkv_sweep.embedding.cache import EmbeddingStore
from rwkv_sweep.embedding.cached_encoder import VectorSource
from rwkv_sweep.embedding.cuda_graphs import _read_places
from rwkv_sweep.embedding.layer_encoder import Batch, RwkvEncoder
from rwkv_sweep.embedding.pooling import EOS, PooledTokens
from rwkv_sweep.embedding.postprocessing import check_postprocess
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.common.end_of_text import EndOfText
from rwkv_sweep.models.loading import load_model, model_source
from rwkv_sweep.ops.common.packing import Packed
from tests.embedding_rwkv_checkpoints import REFERENCE, TASKS, digest, embedding_checkpoint
from tests.rwkv7_checkpoints import Sizes, author_checkpoint
from tests.small_models import CPU, FP32, encoder_of, random_config

pytestmark = pytest.mark.usefixtures("one_thread")

Checkpoint = dict[str, Tensor]
SMALL = Sizes(blocks=2, heads=2, head_size=64, wide=128, ranks=(16, 16, 8, 24), vocab=257)
SENTENCES = ["The cat sat on the mat.", "A", "A longer sentence than the first one was, with a comma."]
CONTENT = json.loads(REFERENCE.read_text())
UNBOUNDED = 1_000_000


def local(path: Path, **keys: Any) -> ModelConfig:
    """Of a model over bytes, whose texts end with id 256."""
    return ModelConfig("local", "local", str(path), tokenizer="bytes", **{"eos_id": 256, **keys})


def distance(vector: np.ndarray, expected: list[float]) -> float:
    """Largest difference, relative to the largest number expected."""
    return float(np.abs(vector - np.array(expected)).max() / np.abs(expected).max())


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model, with heads of another inner width than its own."""
    file = tmp_path_factory.mktemp("small") / "small.pth"
    torch.save(embedding_checkpoint(SMALL, inner=96), file)
    return file


@pytest.fixture(scope="module")
def world_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint that the authors' code has read."""
    checkpoint = embedding_checkpoint()
    total = float(sum(tensor.double().abs().sum() for tensor in checkpoint.values()))
    assert total == pytest.approx(CONTENT["checkpoint"], rel=1e-6), "torch draws other numbers: write the file again"
    file = tmp_path_factory.mktemp("world") / "world.pth"
    torch.save(checkpoint, file)
    return file


@pytest.mark.parametrize("count", [1, 2])
def test_vectors_equal_the_authors_package(world_file: Path, count: int) -> None:
    config = ModelConfig("e", "embedding_rwkv", str(world_file), tokenizer="world", eos_count=count, eos_chunk=8)
    encoder = encoder_of(config)
    expected = {name[2:]: of for name, of in CONTENT["vectors"].items() if name[0] == str(count)}
    texts = list(expected)
    assert encoder.tokenize(texts).ids == [expected[text]["ids"] for text in texts]
    pooled_SD = encoder.encode(texts, [SMALL.blocks], [EOS])[EOS][0].double().numpy()
    for text, vector_D in zip(texts, pooled_SD, strict=True):
        assert distance(vector_D, expected[text]["pooled"]) < 1e-5
        for task in TASKS:
            head = encoder.loaded.task_heads[task.strip("[]")]
            assert distance(head.apply(vector_D[None])[0], expected[text][task]) < 1e-5
    # What would be another vector: the last token of several, another head, the text without its end.
    last_SD = encoder.encode(texts, [SMALL.blocks], ["last"])["last"][0].numpy()
    assert (distance(last_SD[0], expected[texts[0]]["pooled"]) > 0.02) == (count == 2)
    assert distance(np.array(expected[texts[0]]["[CLS]"]), expected[texts[0]]["[STS]"]) > 0.05


def test_several_end_of_text_tokens_lie_where_the_published_evaluation_puts_them() -> None:
    layouts = CONTENT["layouts"]
    assert len(layouts) > 150
    for count, chunk, length, ends, ids_digest in layouts:
        end = EndOfText(65535, count, chunk)
        ids, places = end.laid_out(list(range(1, length + 1)), UNBOUNDED)
        assert (list(places), digest(ids)) == (ends, ids_digest), (count, chunk, length)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("max_tokens", [2, 6, 7, 16, 17, 40, 61])
def test_end_of_text_tokens_survive_truncation(count: int, max_tokens: int) -> None:
    end = EndOfText(9, count, chunk=8)
    most = end.most(max_tokens)
    if max_tokens <= count:
        assert most < 1
        return
    for length in range(1, most + 1):
        ids, places = end.laid_out([1] * length, max_tokens)
        assert len(ids) <= max_tokens and [ids[place] for place in places] == [9] * len(places)
        assert ids.count(9) == len(places) and len(places) % count == 0 and ids[-1] == 9
        # Nothing of the text is lost, and every token of it is read equally often.
        assert ids.count(1) in (length, count * length)
    longer, _ = end.laid_out([1] * (most + 1), UNBOUNDED)
    assert most + 1 + count * end.windows(most + 1) > max_tokens and len(longer) > max_tokens


def test_a_text_is_truncated_and_not_its_end(path: Path) -> None:
    encoder = encoder_of(local(path), max_tokens=6)
    tokenized = encoder.tokenize(SENTENCES)
    assert tokenized.ids == [[*b"The c", 256], [*b"A", 256], [*b"A lon", 256]] and tokenized.truncated == 2
    assert tokenized.ends == [(5,), (1,), (5,)]
    template = PromptConfig("t", "Q: {sentence}?")
    (ids,) = encoder_of(local(path), prompt=template, max_tokens=8).tokenize(["abcdef"]).ids
    assert ids == [*b"Q: abc?", 256]
    several = encoder_of(local(path, eos_count=3, eos_chunk=4), max_tokens=9).tokenize(["abc", "ab", "abcdefghij"])
    assert several.ids == [[97, 256, 98, 256, 99, 256], [97, 98, 256] * 3, [97, 98, 256, 99, 100, 256, 101, 102, 256]]
    assert several.truncated == 1


def test_the_end_is_pooled_whatever_the_span(path: Path) -> None:
    """Other poolings keep to the second copy of the sentence; a text that holds the token itself has one end."""
    echo = PromptConfig("echo", "Say: {sentence} Again: {sentence} Done.", "second")
    encoder = encoder_of(local(path, eos_id=0), prompt=echo)
    text = "with a \0 in it"
    read = [*b"Say: with a \0 in it Again: with a \0 in it Done.", 0]
    plain = encoder_of(local(path, eos_count=0, eos_id=None))
    vectors = encoder.encode([text], [0, 1, 2], [EOS, "mean"])
    whole = plain.encode([bytes(read).decode()], [0, 1, 2], ["last"])["last"]
    torch.testing.assert_close(vectors[EOS], whole, rtol=1e-5, atol=1e-5)
    assert (vectors["mean"] - whole).abs().max() > 0.1


def test_pooling_is_by_numpy_the_mean_of_the_ends_of_every_layer(path: Path) -> None:
    layers = [EMBEDDING, 0, 1, 2]
    encoder = encoder_of(local(path, eos_count=3, eos_chunk=6))
    vectors_LSD = encoder.encode(SENTENCES, layers, [EOS])[EOS]
    for row, sentence in enumerate(SENTENCES):
        tokenized = encoder.tokenize([sentence])
        tokens: dict[int, Tensor] = {}
        with torch.inference_mode():
            batch = encoder.batch(tokenized, [0], [])
            encoder.loaded.model(batch.ids_T, batch.packed, layers, tokens.__setitem__)
        expected = np.stack([tokens[layer].numpy()[[*tokenized.ends[0]]].mean(0) for layer in layers])
        np.testing.assert_allclose(vectors_LSD[:, row].numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_layer_stops_the_forward_early(path: Path) -> None:
    encoder = encoder_of(local(path))
    full = encoder.encode(SENTENCES, [0, 1, 2], [EOS])[EOS]
    ran: list[int] = []
    for index, block in enumerate(encoder.loaded.model.blocks):  # type: ignore[arg-type]
        block.attention.output.register_forward_hook(lambda *_, index=index: ran.append(index))
    assert torch.equal(encoder.encode(SENTENCES, [0], [EOS])[EOS][0], full[0]) and ran == [0]


@pytest.mark.parametrize(
    ("base", "quantization"), [("bfloat16", "none"), ("float16", "none"), ("float32", "int8_dynamic")]
)
def test_precisions_stay_near_fp32(path: Path, base: str, quantization: str) -> None:
    exact = encoder_of(local(path)).encode(SENTENCES, [2], [EOS])[EOS]
    vectors = encoder_of(local(path), PrecisionConfig("p", base, quantization)).encode(SENTENCES, [2], [EOS])[EOS]
    assert torch.cosine_similarity(vectors, exact, dim=-1).min() > 0.99 and not torch.equal(vectors, exact)


def test_one_pass_fills_the_cache_with_all_poolings_and_no_other_end_is_taken_for_it(
    path: Path, tmp_path: Path
) -> None:
    store = EmbeddingStore(tmp_path / "store", 1.0)

    def vectors(encoder: RwkvEncoder, pooling: str) -> tuple[Tensor, int]:
        source = VectorSource(encoder, FP32, [EOS, "mean"], store)
        return source.of(SENTENCES, pooling, [2]), source.forwards

    ended = encoder_of(local(path))
    first, forwards = vectors(ended, EOS)
    assert forwards == 1 and vectors(ended, "mean")[1] == 0 and torch.equal(vectors(ended, EOS)[0], first)
    for keys in ({"eos_id": 0}, {"eos_count": 2}, {"eos_count": 2, "eos_chunk": 3}):
        other, forwards = vectors(encoder_of(local(path, **keys)), EOS)
        assert forwards == 1 and not torch.allclose(other, first)


def test_a_checkpoint_is_recognized_by_its_content(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(shutil.copy(path, tmp_path / "named_anyhow.pth"))  # a line comes once for a file
    for config in (local(path), ModelConfig("e", "embedding_rwkv", str(path), tokenizer="bytes", eos_id=256)):
        shape = model_source(config).check()
        assert shape.task_heads == ("CLS", "RETR", "STS") and shape == model_source(config).shape()
    assert "its own embedding is layer=final pooling=eos postprocess=head" in capsys.readouterr().err
    loaded = load_model(local(path), FP32, CPU)
    assert set(loaded.task_heads) == {"CLS", "RETR", "STS"}
    assert loaded.kernel_tags["end_of_text"] == "1 token 256 (not trained with it)"
    wrapped = tmp_path / "wrapped.pth"
    checkpoint = {f"module.{name}": tensor for name, tensor in embedding_checkpoint(SMALL, inner=96).items()}
    images = {"module.vit.patch.weight": torch.ones(3, 3), "module.proj.gate.weight": torch.ones(3, 3)}
    torch.save({"state_dict": checkpoint | images}, wrapped)
    same = load_model(local(wrapped), FP32, CPU)
    assert all(
        torch.equal(one, other) for one, other in zip(same.model.parameters(), loaded.model.parameters(), strict=True)
    )
    assert torch.equal(same.task_heads["STS"].fc1_HD, loaded.task_heads["STS"].fc1_HD)
    assert "what reads images (vit.patch.weight, proj.gate.weight) is left out" in capsys.readouterr().err


def test_texts_of_other_models_have_no_end_unless_one_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    plain = random_config()
    assert load_model(plain, FP32, CPU).end_of_text is None
    named = load_model(ModelConfig(**{**vars(plain), "eos_id": 77}), FP32, CPU)
    assert named.end_of_text == EndOfText(77, trained=False) and "end_of_text" in named.kernel_tags
    assert "model.eos_id=77: this model was not trained to end a text with this token" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("keys", "pooling", "max_tokens", "message"),
    [
        ({}, EOS, 512, r"pooling=eos with model=small.* valid are model\.eos_id="),
        ({"eos_count": 0, "eos_id": 0}, EOS, 512, r"pooling=eos with model=small"),
        ({"eos_count": 2}, "mean", 512, r"model\.eos_count=2 model\.eos_id=null .* valid is a token id"),
        ({"eos_id": 256}, "mean", 512, r"model\.eos_id=256 is not in .* 256 rows: valid is model\.eos_id=0 to 255"),
        ({"eos_id": 0}, "mean", 1, r"max_tokens=1 leaves no token .* is 2 or more"),
        ({"eos_id": 0, "eos_count": 4}, EOS, 4, r"max_tokens=4 leaves no token .*model\.eos_count=4 is 5 or more"),
    ],
)
def test_ends_that_cannot_be_are_refused(keys: dict[str, Any], pooling: str, max_tokens: int, message: str) -> None:
    source = model_source(ModelConfig(**{**vars(random_config()), **keys}))
    with pytest.raises(UserError, match=message) as raised:
        source.check_use(pooling, max_tokens, FP32, source.check())
    assert "\n" not in str(raised.value)


def changed(name: str, tensor: Tensor | None) -> Callable[[Checkpoint], Checkpoint]:
    """A checkpoint with another tensor of this name, or none."""

    def change(checkpoint: Checkpoint) -> Checkpoint:
        others = {key: value for key, value in checkpoint.items() if key != name}
        return others if tensor is None else {**others, name: tensor}

    return change


DAMAGED: dict[str, tuple[Callable[[Checkpoint], Checkpoint], str]] = {
    "another width": (
        changed("head.sts_head.fc1.weight", torch.ones(128, 64)),
        r"head STS .*another shape: head.sts_head.fc1.weight \[128, 64\] \(expected \[128, 128\]\)",
    ),
    "parts of two widths": (
        changed("head.cls_head.fc2.weight", torch.ones(128, 64)),
        r"head CLS .*fc2.weight \[128, 64\] \(expected \[128, 128\]\)",
    ),
    "another norm": (changed("head.retr_head.norm.bias", torch.ones(3)), r"head RETR .*norm.bias \[3\]"),
    "a scalar": (changed("head.retr_head.fc1.weight", torch.tensor(1.0)), r"head RETR .*fc1.weight \[\]"),
    "nothing in it": (changed("head.cls_head.fc1.weight", torch.ones(0, 128)), r"head CLS .*fc1.weight \[0, 128\]"),
    "missing": (changed("head.sts_head.norm.weight", None), r"head STS .*missing: head.sts_head.norm.weight"),
    "unexpected": (changed("head.sts_head.fc3.weight", torch.ones(2)), r"head STS .*unexpected: head.sts_head.fc3"),
    "another dtype": (
        changed("head.sts_head.norm.bias", torch.ones(128, dtype=torch.int32)),
        r"head STS .*another dtype: head.sts_head.norm.bias",
    ),
    "NaN": (
        changed("head.retr_head.fc2.weight", torch.full((128, 128), torch.nan)),
        r"head.retr_head.fc2.weight holds NaN",
    ),
    "NaN in the network": (
        changed("rwkv.blocks.1.ffn.x_k", torch.full((1, 1, 128), torch.nan)),
        r"blocks.1.ffn.x_k holds NaN",
    ),
    "a reranker": (
        lambda c: {name.replace("rwkv.", "reranker."): tensor for name, tensor in c.items()},
        r"the reranker of an EmbeddingRWKV, which reads the states of one and no text",
    ),
    "no heads": (lambda c: {n: t for n, t in c.items() if n[:4] == "rwkv"}, r"has no task heads .* valid for it is"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path: Path, case: str) -> None:
    change, message = DAMAGED[case]
    path = tmp_path / "damaged.pth"
    torch.save(change(embedding_checkpoint(SMALL)), path)
    source = model_source(ModelConfig("embedding_rwkv", "embedding_rwkv", str(path), tokenizer="bytes", eos_id=256))
    with pytest.raises(UserError, match=message) as raised:
        source.check()
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)
    with pytest.raises(UserError, match=message):
        source.load(FP32, CPU)


@pytest.mark.parametrize("kept", [0.5, 0.99])
def test_a_truncated_file_is_refused_in_one_line(path: Path, tmp_path: Path, kept: float) -> None:
    content = path.read_bytes()
    cut = tmp_path / "cut.pth"
    cut.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(UserError, match=re.escape(str(cut))) as raised:
        model_source(local(cut)).check()
    assert "\n" not in str(raised.value)


HEAD = PostprocessConfig("head", head="STS")


@pytest.mark.parametrize(
    ("heads", "config", "pooling", "aggregation", "message"),
    [
        ((), HEAD, "mean", "none", "postprocess=head with a model that has no task heads"),
        (("CLS", "RETR"), HEAD, "mean", "none", r"postprocess\.head=STS is not in .* valid are CLS, RETR$"),
        (("STS",), PostprocessConfig("head"), "mean", "none", r"postprocess\.head=None is not in .* valid are STS$"),
        (("STS",), PostprocessConfig("head", head="STS", fit="train"), "mean", "none", r"postprocess\.fit=train with"),
        (("STS",), HEAD, "state", "none", "pooling=state with postprocess=head, which takes vectors of 128"),
        (("STS",), HEAD, EOS, "concat", "aggregation=concat with postprocess=head"),
    ],
)
def test_heads_that_cannot_be_applied_are_refused(
    path: Path, heads: tuple[str, ...], config: PostprocessConfig, pooling: str, aggregation: str, message: str
) -> None:
    shape: Any = model_source(local(path)).shape()
    with pytest.raises(UserError, match=message) as raised:
        check_postprocess(config, pooling, AggregationConfig(aggregation), (0, 1), replace(shape, heads=heads))
    assert "\n" not in str(raised.value)
    check_postprocess(HEAD, EOS, AggregationConfig("mean"), (0, 1), shape)


def test_the_encoder_applies_the_head_to_any_layer_and_aggregation(path: Path) -> None:
    model = ("model=embedding_rwkv", f"model.path={path}", "model.tokenizer=bytes", "model.eos_id=256", "device=cpu")
    plain = Encoder.from_config(*model, "pooling=eos")
    head = load_model(local(path), FP32, CPU).task_heads["CLS"]
    for keys in (["layer=final"], ["layer=0"], ["layer=[0,1]", "aggregation=mean"]):
        encoder = Encoder.from_config(*model, "pooling=eos", "postprocess=head", "postprocess.head=CLS", *keys)
        layers = keys[0].removeprefix("layer=") if keys[0] == "layer=final" else encoder._layers
        without = plain.encode_layers(SENTENCES, layers)
        if len(without) > 1:
            without = without / np.linalg.norm(without, axis=-1, keepdims=True)
        np.testing.assert_allclose(encoder.encode(SENTENCES), head.apply(without.mean(0)), rtol=1e-4, atol=1e-5)
        assert encoder.get_sentence_embedding_dimension() == 128
    with pytest.raises(UserError, match=r"postprocess\.head=QA is not in .* valid are CLS, RETR, STS"):
        Encoder.from_config(*model, "postprocess=head", "postprocess.head=QA")


def test_places_of_a_pair_on_a_gpu() -> None:
    """What a CUDA graph pools: the ends of both sentences, and whatever of the padding."""
    flat = _read_places([(2, 5), (1, 3, 4)], ends=(6, 11, 14))
    assert flat[:5] == [2, 5, 7, 9, 10] and len(flat) == 14 + 4 and flat[14:] == [0, 2, 5, 14]
    assert _read_places([range(1, 3), range(0, 2)], ends=(4, 8, 10))[:4] == [1, 2, 4, 5]


@pytest.mark.parametrize("count", [1, 3])
def test_what_a_cuda_graph_reads_of_a_pair_gives_the_same_vectors(path: Path, count: int) -> None:
    """The batch as a graph lays it out, with its padding, here run without one."""
    encoder = encoder_of(local(path, eos_count=count, eos_chunk=12))
    tokenized = encoder.tokenize(SENTENCES[:2])
    first, second = tokenized.ids
    ends = (len(first), len(first) + len(second), 128)
    ids_T = torch.tensor(first + second + [0] * (128 - ends[1]))
    flat = torch.tensor(_read_places(tokenized.ends, ends))
    packed = Packed.of([ends[0], len(second), 128 - ends[1]])
    batch = Batch(ids_T, packed, PooledTokens(packed), None, PooledTokens(Packed((1, 1, 126), flat[128:])), flat[:128])
    with torch.inference_mode():
        vectors_BD = encoder.encode_batch(batch, [1], [EOS])[EOS][1]
    expected_SD = encoder.encode(SENTENCES[:2], [1], [EOS])[EOS][0]
    torch.testing.assert_close(vectors_BD[:2], expected_SD, rtol=1e-5, atol=1e-5)


def test_a_file_of_the_hub_comes_from_its_cache_else_from_the_hub(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, ...]] = []

    def download(repository: str, file: str, revision: str | None, local_files_only: bool) -> str:
        calls.append((repository, file, revision, local_files_only))
        if local_files_only:
            raise FileNotFoundError("not in the cache")
        return str(path)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    keys: dict[str, Any] = {"tokenizer": "bytes", "eos_id": 256, "id": "a/b", "revision": "c", "file": "d.pth"}
    for source in ("embedding_rwkv", "hub"):
        calls.clear()
        assert model_source(ModelConfig("m", source, **keys)).shape().task_heads
        assert calls == [("a/b", "d.pth", "c", True), ("a/b", "d.pth", "c", False)]

    def unreachable(*_: object, **__: object) -> str:
        raise OSError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    for source, advice in (("embedding_rwkv", "set model.path="), ("hub", "set model=local model.path=")):
        message = rf"model\.file=d\.pth of model\.id=a/b at revision c .*Name or service.*copy that file .* {advice}"
        with pytest.raises(UserError, match=message) as raised:
            model_source(ModelConfig("m", source, **keys)).shape()
        assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match=r"model\.id=a/b model\.file=None with model=m: valid is"):
        model_source(ModelConfig("m", "embedding_rwkv", **{**keys, "file": None})).shape()


def test_its_file_given_to_transformers_is_refused_with_what_reads_it(path: Path) -> None:
    with pytest.raises(UserError, match=r"is a file: .*RWKV or EmbeddingRWKV is read by model=local$"):
        model_source(ModelConfig("hf", "hf", str(path))).check()


def test_plain_checkpoints_have_neither(tmp_path: Path) -> None:
    torch.save(author_checkpoint(SMALL), tmp_path / "plain.pth")
    loaded = load_model(local(tmp_path / "plain.pth", eos_id=None), FP32, CPU)
    assert loaded.end_of_text is None and loaded.task_heads == {}
