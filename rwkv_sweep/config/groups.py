"""The schemas of the groups of `conf/`: what a model, a precision, a data set and so on are made of.

`rwkv_sweep.config.schema` has the rest of a run, and hands these on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class ModelConfig:
    """Which weights, and how text becomes ids. The last three keys are mistakes of the study, to show what they do; off
    by default, and named in the run's tags.

    name: the option that was chosen.
    source: of an RWKV `assets` (shipped with the package), `hub`, `local` or `random`; `embedding_rwkv`: an
    EmbeddingRWKV with its task heads; `hf`: any other encoder or decoder of `transformers`; these two from `path` where
    that is given, else from the hub.
    path: a folder with config.json and weights, or (`local`, `embedding_rwkv`) an original .pth file.
    id: repository on the hub.
    revision: commit that the repository is pinned to.
    tokenizer: `world`, `bytes`, or the path of a tokenizer.json; null takes the tokenizer.json beside the weights.
    hidden_size: width of the stream; shapes are for `random` only.
    num_blocks: number of blocks, for `random` only.
    head_size: width of a head, for `random` only.
    intermediate_size: width of the channel mix, for `random` only.
    vocab_size: rows of the embedding table, for `random` only.
    generation: 4, 5, 6 or 7, for `random` only; files show theirs.
    file: a .pth file of the repository on the hub, in place of its config.json and weights.
    eos_count: end-of-text tokens given to each text, which survive truncation; null: 1 for an EmbeddingRWKV or where
    eos_id is given, else 0.
    eos_id: id of the end-of-text token; null: 65535 for an EmbeddingRWKV; other models were trained with none.
    eos_chunk: where eos_count is above 1: a text of fewer tokens is read eos_count times, a longer one is cut in as
    many parts, each with its end-of-text token.
    foreign_tokenizer: ids of a vocabulary that is not the model's: `gpt2`, `world`, `bytes`, or a tokenizer.json.
    full_depth: every layer costs all blocks.
    rescale_every: the stream is halved after each so many blocks; 0 never.
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
    generation: int | None = None
    file: str | None = None
    eos_count: int | None = None
    eos_id: int | None = None
    eos_chunk: int = 512
    foreign_tokenizer: str | None = None
    full_depth: bool = False
    rescale_every: int = 0


@dataclass
class PoolingConfig:
    """Tokens to one vector per layer. `fit` and `corpus` are for `idf` alone, which takes one of them.

    name: the option that was chosen.
    source: what is pooled of a block's tokens: its output (`residual`), the `values` of its time mix (RWKV-7: with the
    value residual), or what its time mix adds to the stream (`time_mix`). The last two are for blocks of an RWKV.
    fit: split of the dataset in whose sentences `idf` counts tokens, such as `train[:1000]`; null with no corpus counts
    them in the scored sentences themselves (transductive, and labelled so).
    corpus: text file in which `idf` counts tokens: UTF-8, one text a line.
    """

    name: str = MISSING
    fit: str | None = None
    corpus: str | None = None
    source: str = "residual"

    @property
    def spec(self) -> str:
        """Name and source in one, as `rwkv_sweep.embedding.pooling` reads them: `mean`, `values:mean`."""
        return self.name if self.source == "residual" else f"{self.source}:{self.name}"


@dataclass
class AggregationConfig:
    """Several layers to one vector.

    name: the option that was chosen.
    normalize: `unit` scales each layer's vector to length 1 before, so that deep blocks with their larger norms do not
    drown the rest; `none` leaves them.
    weights: for `weighted`: `linear` or `geometric` in depth, or a list with one number a layer.
    fit: for `learned`: split of the dataset to whose pairs one weight a layer is fitted, such as `train`; null takes
    `dataset.fit`. Pairs with a sentence that is scored too are left out.
    """

    name: str = MISSING
    normalize: str = "unit"
    weights: Any = None
    fit: str | None = None


@dataclass
class SelectConfig:
    """Which configuration of a sweep is chosen, on another split than the one that is scored.

    split: split of the dataset on which every run is scored too, to choose by; null takes `dataset.fit`, unless that is
    scored; `none` chooses nothing.
    by: what chooses: the highest value on that split.
    max_latency_ms: a chosen run takes no longer for a pair, on average; null for no limit.
    max_weights_mib: a chosen run's weights are no larger; null for no limit.
    """

    split: str | None = None
    by: str = "quality/spearman"
    max_latency_ms: float | None = None
    max_weights_mib: float | None = None


@dataclass
class PostprocessConfig:
    """What is done to the sentence vectors after aggregation.

    name: the option that was chosen.
    components: directions that `abtt` removes.
    head: of the task heads of an EmbeddingRWKV the one that `head` applies: `STS`, `CLS` or `RETR`.
    fit: split that means and directions are taken from, such as `train[:1000]`; null takes them from the scored
    sentences themselves (transductive, and labelled so).
    """

    name: str = MISSING
    components: int = 2
    head: str | None = None
    fit: str | None = None


@dataclass
class PromptConfig:
    """What the model reads in place of the bare sentence.

    name: the option that was chosen.
    template: text with `{sentence}` in it.
    span: which tokens are pooled: `all`, or those of the `second` occurrence of the sentence.
    """

    name: str = MISSING
    template: str = "{sentence}"
    span: str = "all"


@dataclass
class PrecisionConfig:
    """What the weights become.

    name: the option that was chosen.
    base: dtype of the matrices; `tfloat32` is fp32 multiplied in TF32.
    quantization: of linear layers: `none`; by bitsandbytes `int8` (LLM.int8), `nf4`, `fp4`; by native kernels
    `int8_dynamic` and `fp8`, whose weights and inputs are scaled row by row; `int8_weight` (by row) and `int4` (in
    groups of 64), which are of the weights alone.
    blocks: which blocks are quantized: `all`, `none`, `first6`, `last6`, `first_half`, `last_half`, a number, or a list
    of these.
    modules: which of their linear layers: `all`, `time_mix`, `channel_mix`, a name such as `key` or `channel_mix.key`,
    or a list of these.
    double_quantization: quantize the scales of `nf4` and `fp4` too.
    calibration: how the codes of `int4` are chosen: `none` rounds, `hqq` fits zeros to the weights, `gptq` fits codes
    to what the layers read from `calibration_fit`.
    calibration_fit: split of the dataset that `gptq` reads, such as `train[:200]`, without what is scored too; null
    takes `dataset.fit`.
    """

    name: str = MISSING
    base: str = MISSING
    quantization: str = "none"
    blocks: Any = "all"
    modules: Any = "all"
    double_quantization: bool = False
    calibration: str = "none"
    calibration_fit: str | None = None


@dataclass
class DeviceConfig:
    """Where the model runs.

    name: the option that was chosen.
    type: `auto` is a GPU if there is one.
    index: which GPU; null spreads the jobs of a host over its GPUs, so that no two share one.
    threads: CPU threads; null leaves it.
    """

    name: str = MISSING
    type: str = MISSING
    index: int | None = None
    threads: int | None = None


STS_TASKS: dict[str, tuple[str, str, str | None]] = {
    "STS12": ("mteb/sts12-sts", "a0d554a64d88156834ff5ae9920b964011b16384", None),
    "STS13": ("mteb/sts13-sts", "7e90230a92c190f1bf69ae9002b8cea547a64cca", None),
    "STS14": ("mteb/sts14-sts", "6031580fec1f6af667f0bd2da0a551cf4f0b2375", None),
    "STS15": ("mteb/sts15-sts", "ae752c7c21bf194d8b67fd573edf7ae58183cbe3", None),
    "STS16": ("mteb/sts16-sts", "4d8694f8f0e0100860b497b999b3dbed754a0513", None),
    "STS17": ("mteb/sts17-crosslingual-sts", "faeb762787bd10488a50c8b5be4a3b82e411949c", "en-en"),
    "STS-B": ("mteb/stsbenchmark-sts", "b0fddb56ed78048fa8b90373c8a3cfc37b684831", None),
    "SICK-R": ("mteb/sickr-sts", "20a6d6f312dd54037fe07a32d58e5e168867909d", None),
    "BIOSSES": ("mteb/biosses-sts", "d3fb88f8f02e40887cd149695127462bbcf29b4a", None),
}
"""Of each `dataset.task` the hub's dataset, the commit that MTEB reads, and its part."""


@dataclass
class DatasetConfig:
    """Which sentence pairs.

    name: the option that was chosen.
    source: `assets` (shipped with the package, no path), `hub` or `file`; a path, where given, wins over the hub.
    path: a folder with one file per split or its shards as the hub names them, or one file, whose split is called
    `all`; TSV, CSV, JSONL, JSON (each also `.gz`) or Parquet.
    task: a task of MTEB that scores pairs, in place of `id` and `revision`: see `dataset=mteb`.
    id: the hub's dataset; of `assets`, `embedded` or `embedded_hard`.
    subset: its part, where it has several.
    revision: commit that the dataset is pinned to.
    splits: `datasets` slicing syntax, such as `train[:1000]`; each is scored, the first also bare.
    sentence1: column of the first sentences.
    sentence2: column of the second sentences.
    label: column of the labels, 0/1 or graded.
    fit: split that is not scored, and that weights are fitted to and configurations chosen on where no other key names
    one; null for none.
    tasks: of MTEB, of any kind, scored beside the pairs, such as `[Banking77Classification, NFCorpus]`; needs `mteb`.
    word_split: how the word baselines cut the text: `whitespace` (MRPC, where words and punctuation stand apart
    already) or `punctuation` (ordinary text; Chinese, Japanese, Thai and other scripts without spaces by letters).
    """

    name: str = MISSING
    source: str = MISSING
    path: str | None = None
    task: str | None = None
    id: str | None = None
    subset: str | None = None
    revision: str | None = None
    splits: list[str] = MISSING
    sentence1: str = "sentence1"
    sentence2: str = "sentence2"
    label: str = "label"
    fit: str | None = None
    tasks: list[str] = field(default_factory=list)
    word_split: str = "whitespace"
