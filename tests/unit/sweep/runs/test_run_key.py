"""Which fields of a config decide a run, a baseline and stored vectors: every field there is, walked over."""

from __future__ import annotations

import dataclasses
import re
import shutil
import typing
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rwkv_sweep.config.schema import (
    AggregationConfig,
    DatasetConfig,
    DeviceConfig,
    MeasureConfig,
    ModelConfig,
    PoolingConfig,
    PostprocessConfig,
    PrecisionConfig,
    PromptConfig,
    RunConfig,
    SearchConfig,
    SelectConfig,
    StoreConfig,
    TrackingConfig,
)
from rwkv_sweep.embedding import cache
from rwkv_sweep.embedding.cache import EmbeddingStore
from rwkv_sweep.embedding.cached_encoder import VectorSource
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.loading import model_source
from rwkv_sweep.sweep.runs import run_key as run_key_module
from rwkv_sweep.sweep.runs.run_key import SplitFingerprints, baseline_key, run_key
from rwkv_sweep.utils import source_digest as source_digest_module
from rwkv_sweep.utils.source_digest import source_digest
from tests.small_models import encoder_of, random_config, small_lm

HOW_IT_IS_RUN = {"report", "objectives", "resume", "isolate", "timeout_s", "on_error"}
"""What a run's numbers do not depend on."""
KNOWN_BY_CONTENT = {
    *("model.path", "model.tokenizer", "model.foreign_tokenizer"),
    *("dataset.path", "word_vectors.path", "pooling.corpus"),
}
"""What counts is what is there: see the tests of contents below, and test_corpus.py."""
CHOOSING = {"select.by", "select.max_latency_ms", "select.max_weights_mib"}
"""What chooses among runs that have finished."""
NOT_DECIDING_A_RUN = HOW_IT_IS_RUN | KNOWN_BY_CONTENT | CHOOSING | {"tracking", "store", "device.name", "device.index"}
DECIDING_A_BASELINE = {"dataset", "bootstrap", "seed", "measure"}
DECIDING_VECTORS = {"precision", "prompt", "max_tokens", "batch_tokens"}
"""Beside the model, its tokenizer, the kind of device, the pooling and the sentences, which are known by content."""


@pytest.fixture
def run(tmp_path: Path) -> RunConfig:
    """A random model of one block, and three pairs."""
    pairs = tmp_path / "pairs.tsv"
    pairs.write_text("sentence1\tsentence2\tlabel\na b\ta b\t1\nc d\te f\t0\ng\tg h\t1\n")
    return RunConfig(
        model=random_config(hidden_size=16, num_blocks=1, intermediate_size=32),
        pooling=PoolingConfig("mean"),
        precision=PrecisionConfig("fp32", "float32"),
        aggregation=AggregationConfig("none"),
        postprocess=PostprocessConfig("none"),
        prompt=PromptConfig("none"),
        device=DeviceConfig("cpu", "cpu"),
        dataset=DatasetConfig("pairs", "file", str(pairs), splits=["all"]),
        tracking=TrackingConfig(False, "sqlite:///x.db", "x", "x"),
        store=StoreConfig(path="store"),
        batch_tokens=64,
    )


def fields_of(schema: type, above: str = "") -> Iterator[str]:
    """Dotted names of all fields of a schema, those of schemas within it for these."""
    for name, kind in typing.get_type_hints(schema).items():
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            yield from fields_of(kind, f"{above}{name}.")
        else:
            yield above + name


FIELDS = list(fields_of(RunConfig))


def changed(config: Any, name: str) -> Any:
    """The config with another value of one field, valid or not."""
    first, _, rest = name.partition(".")
    value = getattr(config, first)
    return replace(config, **{first: changed(value, rest) if rest else another(value)})


def another(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value, "another"]
    return f"{value} another"


def is_among(name: str, names: set[str]) -> bool:
    """Whether a field, or the group that holds it, is among these."""
    return name in names or name.partition(".")[0] in names


def test_all_fields_are_walked_over() -> None:
    assert {"layer", "precision.base", "model.rescale_every", "dataset.splits", "word_vectors.path"} <= set(FIELDS)
    assert len(FIELDS) == len(set(FIELDS)) > 60
    named = NOT_DECIDING_A_RUN | DECIDING_A_BASELINE | DECIDING_VECTORS
    assert [name for name in named if not any(is_among(field, {name}) for field in FIELDS)] == []


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_is_in_the_keys_of_what_it_decides(run: RunConfig, field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_key_module, "resolve_device", lambda device: SimpleNamespace(type=device.type))
    for content in [name for name in vars(run_key_module) if name.endswith("_content")]:
        monkeypatch.setattr(run_key_module, content, lambda *_: "the same content")
    other = changed(run, field)
    assert other != run
    assert (run_key(other) == run_key(run)) == is_among(field, NOT_DECIDING_A_RUN)
    decides = is_among(field, DECIDING_A_BASELINE) and field not in KNOWN_BY_CONTENT
    assert (baseline_key("word_overlap", other) != baseline_key("word_overlap", run)) == decides


# What is known by content: the config's words for it are not in the key, the content is.


def test_data_are_known_by_content(run: RunConfig, tmp_path: Path) -> None:
    copy = tmp_path / "copy.tsv"
    shutil.copyfile(tmp_path / "pairs.tsv", copy)
    moved = replace(run, dataset=replace(run.dataset, path=str(copy)))
    assert keys(moved) == keys(run)
    copy.write_text(copy.read_text().replace("g h", "g i"))
    assert all(key not in keys(run) for key in keys(moved))


FITTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "postprocess": (
        {"postprocess": PostprocessConfig("center", fit="train")},
        {"postprocess": PostprocessConfig("none", fit="train")},
    ),
    "probe": (
        {"measure": MeasureConfig(probe=True, probe_fit="train")},
        {"measure": MeasureConfig(probe_fit="train")},
    ),
    "aggregation": (
        {"aggregation": AggregationConfig("learned", fit="train")},
        {"aggregation": AggregationConfig("mean", fit="train")},
    ),
    "idf": ({"pooling": PoolingConfig("idf", fit="train")}, {"pooling": PoolingConfig("mean", fit="train")}),
    "idf of a search": (
        {"pooling": PoolingConfig("mean", fit="train"), "search": SearchConfig(True, ["mean", "idf"])},
        {"pooling": PoolingConfig("mean", fit="train"), "search": SearchConfig(True, ["mean"])},
    ),
}
"""What is fitted on a split of its own, and what names one and does not use it."""


@pytest.mark.parametrize("what", FITTED)
def test_a_split_to_fit_on_is_known_by_content(run: RunConfig, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "splits"
    folder.mkdir()
    for split in ("test", "train"):
        shutil.copyfile(tmp_path / "pairs.tsv", folder / f"{split}.tsv")
    data = replace(run.dataset, path=str(folder), splits=["test"])
    using, naming = (replace(run, dataset=data, **changes) for changes in FITTED[what])
    before = run_key(using), run_key(naming)
    # Labels that are all the same are none to score by, and do for fitting.
    (folder / "train.tsv").write_text("sentence1\tsentence2\tlabel\nx\ty\t1\nc\td\t1\ne\tf\t1\n")
    assert run_key(using) != before[0] and run_key(naming) == before[1]


def test_each_split_has_a_content_of_its_own(run: RunConfig) -> None:
    """In one process, which reads each file once."""
    known = SplitFingerprints()
    contents = [
        run_key_module.data_content(replace(run, dataset=replace(run.dataset, splits=splits)), known)
        for splits in (["all"], ["all[:2]"], ["all[1:]"], ["all[:2]", "all"])
    ]
    assert [len(content) for content in contents] == [1, 1, 1, 2]
    assert len({tuple(content) for content in contents}) == 4 and contents[3] == contents[1] + contents[0]


def test_a_key_is_32_digits_of_its_parts_in_any_order(run: RunConfig, tmp_path: Path) -> None:
    digests = [
        run_key_module._digest(parts)
        for parts in ({"a": 1, "b": tmp_path}, {"b": tmp_path, "a": 1}, {"a": 1, "b": "x"})
    ]
    assert digests[0] == digests[1] != digests[2]
    assert all(re.fullmatch("[0-9a-f]{32}", key) for key in (*digests, *keys(run)))


@pytest.mark.parametrize("enabled", [True, False])
def test_a_limit_of_weights_decides_a_search_alone(run: RunConfig, enabled: bool) -> None:
    searches = [
        replace(run, search=SearchConfig(enabled), select=SelectConfig(max_weights_mib=limit)) for limit in (None, 5.0)
    ]
    assert (run_key(searches[0]) != run_key(searches[1])) == enabled


def test_a_corpus_is_known_by_content(run: RunConfig, tmp_path: Path) -> None:
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    for path in (one, two):
        path.write_text("a text\nanother\n")
    idf = [replace(run, pooling=PoolingConfig("idf", corpus=str(path))) for path in (one, two)]
    mean = [replace(run, pooling=PoolingConfig("mean", corpus=str(path))) for path in (one, two)]
    assert run_key(idf[0]) == run_key(idf[1]) and run_key(mean[0]) == run_key(mean[1])
    missing = replace(run, pooling=PoolingConfig("idf", corpus=str(tmp_path / "none.txt")))
    with pytest.raises(
        UserError, match=r"pooling\.corpus=.*none\.txt does not exist: .*a text file with one text a line"
    ):
        run_key(missing)
    two.write_text("a text\nand others\n")
    assert run_key(idf[0]) != run_key(idf[1]) and run_key(mean[0]) == run_key(mean[1])


def test_word_vectors_are_known_by_content(run: RunConfig, tmp_path: Path) -> None:
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    for path in (one, two):
        path.write_text("a 1 2\nb 3 4\n")
    first, second = (replace(run, word_vectors=replace(run.word_vectors, path=str(path))) for path in (one, two))
    assert keys(first) == keys(second) and not set(keys(first)) & set(keys(run))
    two.write_text("a 1 2\nb 3 5\n")
    assert not set(keys(first)) & set(keys(second))
    missing = replace(run, word_vectors=replace(run.word_vectors, path=str(tmp_path / "none.txt")))
    with pytest.raises(UserError, match=r"word_vectors\.path=.*none\.txt does not exist: .*a file of word vectors"):
        run_key(missing)
    without = replace(second, baselines=["word_overlap"])
    assert run_key(without) == run_key(replace(without, word_vectors=run.word_vectors))


def test_a_checkpoint_is_known_by_content(run: RunConfig, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    small_lm(num_blocks=1).save_pretrained(one)
    shutil.copytree(one, two)
    models = (ModelConfig("local", "local", str(path), tokenizer="bytes") for path in (one, two))
    first, second = (replace(run, model=model) for model in models)
    assert run_key(first) == run_key(second)
    small_lm(num_blocks=2).save_pretrained(two)
    assert run_key(first) != run_key(second)


@pytest.mark.parametrize("key", ["tokenizer", "foreign_tokenizer"])
def test_a_tokenizer_is_known_by_content(run: RunConfig, key: str) -> None:
    model = replace(run.model, vocab_size=70_000)
    run, other = (replace(run, model=config) for config in (model, replace(model, **{key: "world"})))
    weights, other_weights = (model_source(config.model).fingerprints()[0] for config in (run, other))
    assert run_key(other) != run_key(run) and other_weights == weights


def keys(run: RunConfig) -> tuple[str, str]:
    """Of a run and of a baseline."""
    return run_key(run), baseline_key("word_vectors", run)


def test_what_is_in_the_keys(run: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = ("model_content", "data_content", "word_vectors_content", "corpus_content")
    for name in contents:
        monkeypatch.setattr(run_key_module, name, lambda *_, name=name: name)
    monkeypatch.setattr(run_key_module, "results_code_digest", lambda: "the code")
    monkeypatch.setattr(run_key_module, "_digest", lambda parts: parts)
    parts: Any = run_key(run)
    assert (parts["kind"], parts["code"], parts["asked"]["device"]) == (
        "model",
        "the code",
        {"type": "cpu", "threads": None},
    )
    assert parts["content"] == dict(zip(("model", "data", "words", "idf"), contents, strict=True))
    parts = baseline_key("word_overlap", run)
    dataset = {key: value for key, value in dataclasses.asdict(run.dataset).items() if key != "path"}
    asked = {"name": "word_overlap", "dataset": dataset, "bootstrap": 2000, "seed": 0}
    asked["measure"] = dataclasses.asdict(run.measure)
    content = {"data": "data_content", "words": "word_vectors_content"}
    assert parts == {"kind": "baseline", "asked": asked, "content": content, "code": "the code"}


def test_baselines_have_keys_of_their_own(run: RunConfig) -> None:
    assert len({run_key(run), baseline_key("word_overlap", run), baseline_key("word_vectors", run)}) == 3


@pytest.mark.parametrize("index", [None, 3])
def test_which_gpu_or_how_it_was_chosen_is_not_in_the_key(run: RunConfig, index: int | None) -> None:
    device = DeviceConfig("auto", "auto", index)
    if not torch.cuda.is_available():
        assert run_key(replace(run, device=device)) == run_key(run)


def test_the_code_is_in_the_keys(run: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    before = keys(run)
    monkeypatch.setattr(run_key_module, "results_code_digest", lambda: "another program")
    assert not set(keys(run)) & set(before)


# Vectors in the store.

SENTENCES = ["a b", "c d e", "a b", "f"]


class Vectors:
    """One small store; `computes` is whether vectors had to be computed for it."""

    def __init__(self, folder: Path) -> None:
        self.store = EmbeddingStore(folder, max_gib=1.0)

    def computes(
        self, run: RunConfig, sentences: Sequence[str] = SENTENCES, pooling: str = "mean", **encoder: Any
    ) -> bool:
        used = {"prompt": run.prompt, "max_tokens": run.max_tokens, "batch_tokens": run.batch_tokens, **encoder}
        source = VectorSource(encoder_of(used.pop("model", run.model), **used), run.precision, [pooling], self.store)
        source.of(sentences, pooling, [0])
        return source.forwards > 0


@pytest.fixture
def vectors(run: RunConfig, tmp_path: Path) -> Vectors:
    """A store that has those of `run`."""
    kept = Vectors(tmp_path / "store")
    assert kept.computes(run) and not kept.computes(run)
    return kept


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_is_in_the_key_of_vectors_that_it_decides(run: RunConfig, vectors: Vectors, field: str) -> None:
    """Its model aside, which stays the one that the encoder has loaded."""
    assert vectors.computes(changed(run, field), model=run.model) == is_among(field, DECIDING_VECTORS)


MODELS: dict[str, dict[str, Any]] = {
    "width": {"hidden_size": 24},
    "blocks": {"num_blocks": 2},
    "head": {"head_size": 4},
    "intermediate": {"intermediate_size": 40},
    "vocabulary": {"vocab_size": 300},
    "halved stream": {"rescale_every": 1},
    "tokenizer": {"tokenizer": "world", "vocab_size": 70_000},
    "mismatched tokenizer": {"foreign_tokenizer": "world"},
}


@pytest.mark.parametrize("change", MODELS)
def test_another_model_or_tokenizer_has_vectors_of_its_own(run: RunConfig, vectors: Vectors, change: str) -> None:
    assert vectors.computes(run, model=replace(run.model, **MODELS[change]))


def test_other_poolings_and_sentences_have_vectors_of_their_own(run: RunConfig, vectors: Vectors) -> None:
    assert vectors.computes(run, pooling="last")
    assert vectors.computes(run, SENTENCES[:2]) and vectors.computes(run, SENTENCES[::-1])
    assert vectors.computes(run, ["a bc", "d e", "a b", "f"])  # the same letters
    assert not vectors.computes(run, tuple(SENTENCES))


def test_weights_of_tokens_have_vectors_of_their_own(run: RunConfig, vectors: Vectors) -> None:
    for weight in (1.0, 2.0):
        idf_V = torch.full((256,), weight)
        idf_V[0] = 0.5
        assert vectors.computes(run, pooling="idf", idf_V=idf_V)
        assert not vectors.computes(run, pooling="idf", idf_V=idf_V.clone())


def test_the_code_is_in_the_key_of_vectors(run: RunConfig, vectors: Vectors, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "vectors_code_digest", lambda: "another program")
    assert vectors.computes(run)


# The sources that go into a key.


@pytest.mark.parametrize("parts", [run_key_module.DECIDING, cache.DECIDING])
def test_every_source_that_is_named_exists(parts: tuple[str, ...], repo_root: Path) -> None:
    package = repo_root / "rwkv_sweep"
    assert [part for part in parts if not (package / part).is_file() and not any((package / part).glob("*.py"))] == []


@pytest.mark.parametrize("part", ["modles", "sweep/task.py", "assets"])
def test_a_name_without_sources_is_refused(part: str) -> None:
    """A package that was renamed would let its changes pass unseen."""
    with pytest.raises(FileNotFoundError, match=f"no Python file in .*{part}"):
        source_digest("models", part)


DECIDING_RUNS = [
    "errors.py",
    "evaluation/metrics.py",
    "stats/bootstrap.py",
    "data/splits.py",
    "sweep/runs/measuring.py",
    "embedding/pooling.py",
    "models/rwkv6/network.py",
    "models/quantization/selection.py",
    "ops/numba/token_shift.py",
]
DECIDING_NO_RUN = [
    "report/summary.py",
    "report/page/html.py",
    "sweep/callback.py",
    "tracking/client.py",
    "cli/sweep.py",
]


@pytest.mark.parametrize("name", [*DECIDING_RUNS, *DECIDING_NO_RUN])
def test_a_changed_source_changes_the_keys_that_it_decides(
    repo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    package = tmp_path / "rwkv_sweep"
    shutil.copytree(repo_root / "rwkv_sweep", package, ignore=shutil.ignore_patterns("assets", "__pycache__"))
    monkeypatch.setattr(source_digest_module, "PACKAGE", package)
    before = digests()
    (package / name).write_text((package / name).read_text() + "\n")
    assert [old != new for old, new in zip(before, digests(), strict=True)] == [
        name in DECIDING_RUNS,
        name.startswith(("errors", "embedding/", "models/", "ops/")),
    ]


def digests() -> tuple[str, str]:
    """Of the code that decides runs, and vectors."""
    source_digest.cache_clear()
    try:
        return run_key_module.results_code_digest(), cache.vectors_code_digest()
    finally:
        source_digest.cache_clear()
