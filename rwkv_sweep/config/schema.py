"""The schemas behind `conf/`: every key a run can have, with its type and meaning, and the values that are valid.

Only OmegaConf and the standard library are imported here, so that `--help` and completion stay fast.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from rwkv_sweep.config.groups import (
    AggregationConfig,
    DatasetConfig,
    DeviceConfig,
    ModelConfig,
    PoolingConfig,
    PostprocessConfig,
    PrecisionConfig,
    PromptConfig,
    SelectConfig,
)
from rwkv_sweep.errors import UserError

__all__ = [
    "AGGREGATIONS",
    "BASELINES",
    "BASES",
    "CALIBRATIONS",
    "NORMALIZATIONS",
    "ON_ERROR",
    "OUTPUTS",
    "POOLINGS",
    "POOLING_SOURCES",
    "POSTPROCESSES",
    "QUANTIZATIONS",
    "REPORTS",
    "SEARCH",
    "SELECT_BY",
    "SPANS",
    "WORD_SPLITS",
    "AggregationConfig",
    "DatasetConfig",
    "DeviceConfig",
    "MeasureConfig",
    "ModelConfig",
    "PoolingConfig",
    "PostprocessConfig",
    "PrecisionConfig",
    "PromptConfig",
    "RunConfig",
    "SearchConfig",
    "SelectConfig",
    "StoreConfig",
    "TrackingConfig",
    "WordVectorsConfig",
    "require_one_of",
]

POOLING_SOURCES = ("residual", "values", "time_mix")
POOLINGS = ("mean", "last", "max", "first_last", "position", "idf", "eos", "state")
AGGREGATIONS = ("none", "mean", "concat", "max", "weighted", "learned")
NORMALIZATIONS = ("none", "unit")
POSTPROCESSES = ("none", "center", "abtt", "whiten", "head")
SPANS = ("all", "second")
REPORTS = ("aggregation_overhead", "quantization", "paper", "generations")
BASELINES = ("word_vectors", "word_overlap")
SEARCH = {
    "poolings": ("mean", "last", "max", "first_last", "position", "idf"),
    "aggregations": ("mean", "max", "concat", "linear", "geometric", "learned"),
    "postprocesses": ("none", "center", "abtt", "whiten"),
}
"""What a search may consist of."""
SELECT_BY = ("quality/spearman", "quality/pearson", "quality/average_precision", "quality/auc", "probe/fit_score")
WORD_SPLITS = ("whitespace", "punctuation")
ON_ERROR = ("continue", "stop")
BASES = ("float32", "tfloat32", "bfloat16", "float16")
QUANTIZATIONS = ("none", "int8", "nf4", "fp4", "int8_dynamic", "fp8", "int8_weight", "int4")
OUTPUTS = ("float32", "float16", "int8", "binary")
CALIBRATIONS = ("none", "hqq", "gptq")


@dataclass
class WordVectorsConfig:
    """The vectors of the baseline `word_vectors`.

    path: a file in GloVe's or word2vec's text format or word2vec's binary one, also compressed; null takes the vectors
    shipped with the package.
    """

    path: str | None = None


@dataclass
class MeasureConfig:
    """What is measured beside Spearman, and how speed is. Set latency_pairs=0 and throughput=false to score quality
    only.

    latency_pairs: pairs timed one by one.
    warmup_pairs: pairs run before that, untimed.
    throughput: run packed batches of the first split, in random order, for tokens/s.
    throughput_seconds: passes over these batches end after that, once their rate is steady; at the latest after four
    times as long.
    parity: also compare vectors and scores with those of fp32 on the same sentences, which costs a sweep one forward in
    fp32. The quantization presets set it.
    representation: also describe the vectors of the first split without labels (entropy, anisotropy, intrinsic
    dimension, CKA of layers and others), see the metrics `representation/*`.
    probe: also train a logistic regression (0/1 labels) or a ridge regression (graded ones) on the vectors of pairs,
    and score it on the first split.
    probe_fit: split of the dataset that it is trained on, such as `train[:1000]`; what is scored too is left out of it.
    speedup_rounds: also time this precision against fp32, interleaved, over so many rounds of one packed batch and four
    times as many single pairs; 0 does not.
    energy_seconds: window over which a GPU's energy is counted, 0.5 at least; 0 for none.
    overhead: also time this configuration against final-layer inference, interleaved.
    overhead_pairs: single pairs of that comparison, at most.
    overhead_batches: packed batches of that comparison, at most.
    """

    latency_pairs: int = 20
    warmup_pairs: int = 3
    throughput: bool = True
    throughput_seconds: float = 0.5
    parity: bool = False
    representation: bool = False
    probe: bool = False
    probe_fit: str | None = None
    speedup_rounds: int = 0
    energy_seconds: float = 0.5
    overhead: bool = False
    overhead_pairs: int = 200
    overhead_batches: int = 20


@dataclass
class SearchConfig:
    """Many configurations in one run, scored from the vectors of one pass; `+experiment=search` is the preset. Every
    single layer is among them. They are chosen on `select.split`, to which everything is fitted too.

    enabled: score them, beside the run itself.
    poolings: those of tokens, such as `mean`.
    layers: sets of layers to aggregate, such as `all` or `first4`.
    aggregations: of each set: `mean`, `max`, `concat`, `linear` and `geometric` (weighted so), `learned`.
    postprocesses: of each: `none`, `center`, `abtt`, `whiten`.
    """

    enabled: bool = False
    poolings: list[str] = field(default_factory=lambda: ["mean", "last", "max", "first_last", "position", "idf"])
    layers: list[str] = field(default_factory=lambda: ["all", "first2", "last2", "first4", "last4", "first6", "last6"])
    aggregations: list[str] = field(default_factory=lambda: ["mean", "max", "concat", "linear", "geometric", "learned"])
    postprocesses: list[str] = field(default_factory=lambda: ["none", "center", "abtt", "whiten"])


@dataclass
class TrackingConfig:
    """What MLflow keeps. Each run's own folder has it all without MLflow too.

    enabled: log to MLflow.
    uri: MLflow tracking URI; a relative sqlite path is taken from the folder the command is started in.
    artifacts: folder of the artifacts, for a database without a server.
    experiment: name of the MLflow experiment.
    """

    enabled: bool = True
    uri: str = MISSING
    artifacts: str = MISSING
    experiment: str = MISSING


@dataclass
class StoreConfig:
    """Pooled vectors of all layers, kept on disk so that no second run computes them again. Speed is never read from
    it.

    enabled: read and write it.
    path: its folder.
    max_gib: the least recently used are removed beyond this size.
    """

    enabled: bool = True
    path: str = MISSING
    max_gib: float = 8.0


@dataclass
class RunConfig:
    """One run.

    layer: block `0` to `L-1`, `final` (or `L`, `-1`: after the final norm), `embedding`; with an aggregation `all`,
    `first4`, `last4`, or a list such as `[1,3,5]`.
    output: what vectors are compared as: `float32`, `float16`, `int8`, `binary` (signs), or `truncate_N` (the first N
    dimensions). Of quality only: speed is that of float32.
    output_fit: split that the ranges of `int8` are taken from, such as `train[:200]`, without what is scored too; null
    takes `dataset.fit`.
    max_tokens: longer sentences are truncated and counted.
    batch_tokens: tokens per packed batch; null takes 4,096 on a CPU and 32,768 on a GPU, which fewer do not fill.
    baselines: run once per sweep.
    report: the research question that the end of the sweep answers; null for none.
    objectives: metrics that each job returns to a sweeper that optimizes, such as hydra/sweeper=optuna.
    bootstrap: resamples of every interval.
    seed: of the bootstrap, and of the order in which batches and configurations are timed.
    on_error: what a failed job does to the rest of its sweep.
    resume: reuse what has finished before, here or in MLflow, and run the rest.
    isolate: a fresh process for each job.
    timeout_s: seconds, above 0, after which such a process is ended; null for none.
    """

    model: ModelConfig = MISSING
    pooling: PoolingConfig = MISSING
    precision: PrecisionConfig = MISSING
    aggregation: AggregationConfig = MISSING
    postprocess: PostprocessConfig = MISSING
    prompt: PromptConfig = MISSING
    device: DeviceConfig = MISSING
    dataset: DatasetConfig = MISSING
    layer: Any = "final"
    output: str = "float32"
    output_fit: str | None = None
    max_tokens: int = 512
    batch_tokens: int | None = None
    baselines: list[str] = field(default_factory=lambda: list(BASELINES))
    word_vectors: WordVectorsConfig = field(default_factory=WordVectorsConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    select: SelectConfig = field(default_factory=SelectConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    report: str | None = None
    objectives: list[str] = field(default_factory=lambda: ["quality/spearman"])
    bootstrap: int = 2000
    seed: int = 0
    on_error: str = "continue"
    resume: bool = False
    isolate: bool = False
    timeout_s: float | None = None


def require_one_of(key: str, value: object, valid: tuple[str, ...]) -> None:
    """Raises UserError, naming key and value, unless `value` is one of `valid`."""
    if value not in valid:
        raise UserError(f"{key}={value} is not known: valid are {', '.join(valid)}")
