"""The schemas behind `conf/`: every key a run can have, with its type and meaning.

Only OmegaConf and the standard library are imported here, so that `--help` and completion stay fast.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from rwkv_sweep.errors import UserError

POOLINGS = ("mean", "last", "max", "first_last", "position", "idf", "state")
AGGREGATIONS = ("none", "mean", "concat", "max", "weighted")
NORMALIZATIONS = ("none", "unit")
POSTPROCESSES = ("none", "center", "abtt", "whiten")
SPANS = ("all", "second")
REPORTS = ("aggregation_overhead", "quantization", "paper")
BASELINES = ("word_vectors", "word_overlap")
WORD_SPLITS = ("whitespace", "punctuation")
ON_ERROR = ("continue", "stop")
BASES = ("float32", "tfloat32", "bfloat16", "float16")
QUANTIZATIONS = ("none", "int8", "nf4", "fp4", "int8_dynamic", "fp8")


@dataclass
class ModelConfig:
    """Which weights, and how text becomes ids.

    source: of an RWKV-6 `assets` (shipped with the package), `hub`, `local` or `random`; `hf`: any other encoder or
    decoder of `transformers`, from `path` where that is given, else from the hub.
    path: a folder with config.json and weights, or (`local`) an original .pth file.
    id, revision: repository on the hub and the commit it is pinned to.
    tokenizer: `world`, `bytes`, or the path of a tokenizer.json; null takes the tokenizer.json beside the weights.
    hidden_size, num_blocks, head_size, intermediate_size, vocab_size: shape, for `random` only.

    Three mistakes of the study, to show what they do; off by default, and told in the run's tags:
    foreign_tokenizer: ids of a vocabulary that is not the model's: `gpt2`, `world`, `bytes`, or a tokenizer.json.
    full_depth: every layer costs all blocks. rescale_every: the stream is halved after each so many blocks; 0 never.
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
    foreign_tokenizer: str | None = None
    full_depth: bool = False
    rescale_every: int = 0


@dataclass
class PoolingConfig:
    """Tokens to one vector per layer."""

    name: str = MISSING


@dataclass
class AggregationConfig:
    """Several layers to one vector.

    normalize: `unit` scales each layer's vector to length 1 before, so that deep blocks with their larger norms do not
    drown the rest; `none` leaves them.
    weights: for `weighted`: `linear` or `geometric` in depth, or a list with one number a layer.
    """

    name: str = MISSING
    normalize: str = "unit"
    weights: Any = None


@dataclass
class PostprocessConfig:
    """What is done to all sentence vectors together, after aggregation.

    components: directions that `abtt` removes. fit: split that means and directions are taken from, such as
    `train[:1000]`; null takes them from the scored sentences themselves (transductive, and labelled so).
    """

    name: str = MISSING
    components: int = 2
    fit: str | None = None


@dataclass
class PromptConfig:
    """What the model reads in place of the bare sentence.

    template: text with `{sentence}` in it. span: which tokens are pooled: `all`, or those of the `second` occurrence of
    the sentence.
    """

    name: str = MISSING
    template: str = "{sentence}"
    span: str = "all"


@dataclass
class PrecisionConfig:
    """What the weights become.

    base: dtype of the matrices: `float32`, `bfloat16`, `float16`, or `tfloat32` (fp32 multiplied in TF32).
    quantization: of linear layers: `none`; by bitsandbytes `int8` (LLM.int8), `nf4`, `fp4`; by native kernels
    `int8_dynamic` and `fp8`, whose weights and inputs are scaled row by row.
    blocks: which blocks are quantized: `all`, `none`, `first6`, `last6`, `first_half`, `last_half`, a number, or a list
    of these.
    modules: which of their linear layers: `all`, `time_mix`, `channel_mix`, a name such as `key` or `channel_mix.key`,
    or a list of these.
    double_quantization: quantize the scales of `nf4` and `fp4` too.
    """

    name: str = MISSING
    base: str = MISSING
    quantization: str = "none"
    blocks: Any = "all"
    modules: Any = "all"
    double_quantization: bool = False


@dataclass
class DeviceConfig:
    """type: `auto` (a GPU if there is one), `cpu` or `cuda`. index: which GPU; null spreads the jobs of a host over its
    GPUs, so that no two share one. threads: CPU threads; null leaves it."""

    name: str = MISSING
    type: str = MISSING
    index: int | None = None
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

    throughput: run packed batches of the first split, in random order, for tokens/s, until throughput_seconds have
    passed or all of them are done. Set latency_pairs=0 and throughput=false to score quality alone.
    parity: also compare vectors and scores with those of fp32 on the same sentences, which costs a sweep one forward in
    fp32. The quantization presets set it.
    speedup_rounds: also time this precision against fp32, interleaved, over so many turns of one packed batch and four
    times as many single pairs; 0 does not.
    energy_seconds: window over which a GPU's energy is counted, 0.5 at least; 0 for none.
    overhead: also time this configuration against final-layer inference, interleaved, over overhead_pairs pairs and
    overhead_batches full packed batches.
    """

    latency_pairs: int = 20
    warmup_pairs: int = 3
    throughput: bool = True
    throughput_seconds: float = 0.5
    parity: bool = False
    speedup_rounds: int = 0
    energy_seconds: float = 1.0
    overhead: bool = False
    overhead_pairs: int = 200
    overhead_batches: int = 20


@dataclass
class TrackingConfig:
    """uri: MLflow tracking URI; a relative sqlite path is taken from the folder the command is started in."""

    enabled: bool = True
    uri: str = MISSING
    artifacts: str = MISSING
    experiment: str = MISSING


@dataclass
class StoreConfig:
    """Pooled vectors of all layers, kept on disk so that no second run computes them again. Speed is never read from
    it. max_gib: the least recently used are removed beyond this size."""

    enabled: bool = True
    path: str = MISSING
    max_gib: float = 8.0


@dataclass
class RunConfig:
    """One run.

    layer: see `rwkv_sweep.layers`. max_tokens: longer sentences are truncated and counted. batch_tokens: tokens per
    packed batch. baselines: run once per sweep. report: the research question that the end of the sweep answers.
    bootstrap: resamples of every interval. seed: of the bootstrap.
    on_error: what a failed job does to the rest of its sweep: `continue` or `stop`.
    resume: take over what has finished before, here or in MLflow, and run the rest.
    isolate: a fresh process for each job. timeout_s: seconds after which such a process is ended; null for none.
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
    max_tokens: int = 512
    batch_tokens: int = 4096
    baselines: list[str] = field(default_factory=lambda: list(BASELINES))
    word_vectors: WordVectorsConfig = field(default_factory=WordVectorsConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    report: str | None = None
    bootstrap: int = 2000
    seed: int = 0
    on_error: str = "continue"
    resume: bool = False
    isolate: bool = False
    timeout_s: float | None = None


def register_schemas() -> None:
    """Make the schemas known to Hydra; `conf/` names them in its defaults lists."""
    store = ConfigStore.instance()
    store.store(name="run_schema", node=RunConfig)
    for group, schema in (
        ("model", ModelConfig),
        ("pooling", PoolingConfig),
        ("precision", PrecisionConfig),
        ("aggregation", AggregationConfig),
        ("postprocess", PostprocessConfig),
        ("prompt", PromptConfig),
        ("device", DeviceConfig),
        ("dataset", DatasetConfig),
    ):
        store.store(group=group, name="schema", node=schema)


def require_one_of(key: str, value: object, valid: tuple[str, ...]) -> None:
    """Raises UserError, naming key and value, unless `value` is one of `valid`."""
    if value not in valid:
        raise UserError(f"{key}={value} is not known: valid are {', '.join(valid)}")


def conf_dir() -> Path:
    """The folder of the YAML files: beside the package in a checkout, inside it in a wheel."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "conf"
