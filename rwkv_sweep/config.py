"""The schemas behind `conf/`: every key a run can have, with its type and meaning.

Only OmegaConf and the standard library are imported here, so that `--help` and completion stay fast.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rwkv_sweep.errors import UserError

POOLINGS = ("mean", "last", "max")
AGGREGATIONS = ("none", "mean", "concat")
BASELINES = ("word_vectors", "word_overlap")
WORD_SPLITS = ("whitespace", "punctuation")


@dataclass
class ModelConfig:
    """Which weights, and how text becomes ids.

    source: `assets` (shipped with the package), `hub`, `local` or `random`.
    path: `local`: a folder with config.json and weights, or an original .pth file.
    id, revision: `hub`: repository and the commit it is pinned to.
    tokenizer: `world`, `bytes`, or the path of a tokenizer.json; null takes the tokenizer.json beside the weights.
    hidden_size, num_blocks, head_size, intermediate_size, vocab_size: shape, for `random` only.
    """

    name: str = MISSING
    source: str = MISSING
    path: str | None = None
    id: str | None = None
    revision: str | None = None
    tokenizer: str | None = None
    hidden_size: int | None = None
    num_blocks: int | None = None
    head_size: int | None = None
    intermediate_size: int | None = None
    vocab_size: int | None = None


@dataclass
class PoolingConfig:
    """Tokens to one vector per layer."""

    name: str = MISSING


@dataclass
class AggregationConfig:
    """Several layers to one vector."""

    name: str = MISSING


@dataclass
class PrecisionConfig:
    """base: dtype of the matrices (`float32`, `bfloat16`, `float16`). quantization: `none` or `int8`."""

    name: str = MISSING
    base: str = MISSING
    quantization: str = "none"


@dataclass
class DeviceConfig:
    """type: `auto` (a GPU if there is one), `cpu` or `cuda`. index: which GPU. threads: CPU threads; null leaves it."""

    name: str = MISSING
    type: str = MISSING
    index: int = 0
    threads: int | None = None


@dataclass
class DatasetConfig:
    """Which sentence pairs.

    source: `assets` (shipped with the package), `hub` or `file`; a path, where given, wins.
    path: a folder with one file per split, or one file (TSV, CSV, JSONL, JSON, Parquet), whose split is called `all`.
    id, subset, revision: the hub's dataset.
    splits: `datasets` slicing syntax, such as `train[:1000]`; each is scored, the first also bare.
    sentence1, sentence2, label: column names.
    word_split: how the word baselines cut the text: `whitespace` (MRPC, where words and punctuation stand apart
    already) or `punctuation` (ordinary text).
    """

    name: str = MISSING
    source: str = MISSING
    path: str | None = None
    id: str | None = None
    subset: str | None = None
    revision: str | None = None
    splits: list[str] = MISSING
    sentence1: str = "sentence1"
    sentence2: str = "sentence2"
    label: str = "label"
    word_split: str = "whitespace"


@dataclass
class WordVectorsConfig:
    """path: vectors in GloVe or word2vec text format; null takes the vectors shipped with the package."""

    path: str | None = None


@dataclass
class MeasureConfig:
    """How speed is measured. latency_pairs and warmup_pairs: pairs timed one by one, and before that.

    throughput: run the whole split once more in packed batches for tokens/s. Set latency_pairs=0 and throughput=false
    to score quality alone.
    """

    latency_pairs: int = 100
    warmup_pairs: int = 5
    throughput: bool = True


@dataclass
class TrackingConfig:
    """uri: MLflow tracking URI; a relative sqlite path is taken from the folder the command is started in."""

    enabled: bool = True
    uri: str = MISSING
    artifacts: str = MISSING
    experiment: str = MISSING


@dataclass
class RunConfig:
    """One run.

    layer: see `rwkv_sweep.layers`. max_tokens: longer sentences are truncated and counted. batch_tokens: tokens per
    packed batch. baselines: run once per sweep. bootstrap: resamples of every interval. seed: of the bootstrap.
    """

    model: ModelConfig = MISSING
    pooling: PoolingConfig = MISSING
    precision: PrecisionConfig = MISSING
    aggregation: AggregationConfig = MISSING
    device: DeviceConfig = MISSING
    dataset: DatasetConfig = MISSING
    layer: Any = "final"
    max_tokens: int = 512
    batch_tokens: int = 4096
    baselines: list[str] = field(default_factory=lambda: list(BASELINES))
    word_vectors: WordVectorsConfig = field(default_factory=WordVectorsConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    bootstrap: int = 2000
    seed: int = 0


def register_schemas() -> None:
    """Make the schemas known to Hydra; `conf/` names them in its defaults lists."""
    store = ConfigStore.instance()
    store.store(name="run_schema", node=RunConfig)
    for group, schema in (
        ("model", ModelConfig),
        ("pooling", PoolingConfig),
        ("precision", PrecisionConfig),
        ("aggregation", AggregationConfig),
        ("device", DeviceConfig),
        ("dataset", DatasetConfig),
    ):
        store.store(group=group, name="schema", node=schema)


def run_config(cfg: DictConfig) -> RunConfig:
    """The typed form of a composed config, without Hydra's own node, checked for what needs no file.

    Raises:
        UserError: a key that must be given is missing, or a value is not among the valid ones.
    """
    try:
        own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
        run = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RunConfig), own))
    except OmegaConfBaseException as error:
        raise UserError(str(error).splitlines()[0]) from error
    assert isinstance(run, RunConfig)
    _check(run)
    return run


def _check(run: RunConfig) -> None:
    require_one_of("pooling.name", run.pooling.name, POOLINGS)
    require_one_of("aggregation.name", run.aggregation.name, AGGREGATIONS)
    require_one_of("device.type", run.device.type, ("auto", "cpu", "cuda"))
    require_one_of("precision.base", run.precision.base, ("float32", "bfloat16", "float16"))
    require_one_of("precision.quantization", run.precision.quantization, ("none", "int8"))
    require_one_of("model.source", run.model.source, ("assets", "hub", "local", "random"))
    require_one_of("dataset.source", run.dataset.source, ("assets", "hub", "file"))
    require_one_of("dataset.word_split", run.dataset.word_split, WORD_SPLITS)
    for name in run.baselines:
        require_one_of("baselines", name, BASELINES)
    for key, value, least in (
        ("max_tokens", run.max_tokens, 1),
        ("batch_tokens", run.batch_tokens, 1),
        ("bootstrap", run.bootstrap, 1),
        ("measure.latency_pairs", run.measure.latency_pairs, 0),
        ("measure.warmup_pairs", run.measure.warmup_pairs, 0),
        ("device.index", run.device.index, 0),
        ("device.threads", run.device.threads if run.device.threads is not None else 1, 1),
    ):
        if value < least:
            raise UserError(f"{key}={value} is too small: valid is {least} or more")
    if not run.dataset.splits:
        raise UserError("dataset.splits=[] is empty: name at least one split, such as [validation]")


def require_one_of(key: str, value: object, valid: tuple[str, ...]) -> None:
    """Raises UserError, naming key and value, unless `value` is one of `valid`."""
    if value not in valid:
        raise UserError(f"{key}={value} is not known: valid are {', '.join(valid)}")


def conf_dir() -> Path:
    """The folder of the YAML files: beside the package in a checkout, inside it in a wheel."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "conf"
