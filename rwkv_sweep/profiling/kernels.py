"""The kernels of a GPU compiled before a model's first job: all that its quality and speed passes will launch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rwkv_sweep.config.schema import AggregationConfig, MeasureConfig, PrecisionConfig
from rwkv_sweep.data.splits import PairSplit
from rwkv_sweep.embedding.embedder import REFERENCE_TEXTS, Embedder
from rwkv_sweep.embedding.prompts import Tokenized
from rwkv_sweep.hardware.devices import current_device
from rwkv_sweep.ops.common.availability import triton_missing
from rwkv_sweep.profiling.speed import compared_batch, timed_batches
from rwkv_sweep.profiling.split_tokens import SplitTokens

BLOCKS = 4
"""Blocks of the forward that is run through: the first, one whose output is not asked for, one whose is, the last."""


class CompiledKernels:
    """What was compiled in this process, so that a further job of the same model compiles nothing again."""

    def __init__(self) -> None:
        self._compiled: set[object] = set()

    def compile_job(
        self,
        embedder: Embedder,
        precision: PrecisionConfig,
        measure: MeasureConfig,
        split: PairSplit,
        read: SplitTokens,
    ) -> None:
        """Compile what the speed pass of a job will launch, and the quality pass of its pooling.

        Args:
            precision: the model's.
            split, read: pairs and tokens that are timed.
        """
        batches = timed_batches(embedder, read.sample) if measure.throughput else []
        if measure.overhead or measure.speedup_rounds:
            batches.append(compared_batch(embedder, read))
        pairs = split.first_pairs(max(measure.latency_pairs, measure.warmup_pairs, measure.overhead_pairs))
        self.compile(embedder, precision, batches, pairs, measure.overhead)

    def compile(
        self,
        embedder: Embedder,
        precision: PrecisionConfig,
        batches: Sequence[Tokenized],
        pairs: Sequence[tuple[str, str]],
        keep_layers: bool,
    ) -> None:
        """Compile, by several threads, what these batches and pairs launch; on a CPU, and without Triton, nothing.

        Args:
            precision: the model's.
            keep_layers: also for the `output_hidden_states` baseline.
        """
        encoder = embedder.encoder
        if encoder.device.type != "cuda" or triton_missing() is not None:
            return
        blocks = encoder.loaded.model.config.num_hidden_layers
        # Weights of layers, and what was fitted, belong to the layers of the job.
        joined = AggregationConfig(name="concat")
        short = replace(embedder, layers=stand_ins(embedder.layers, blocks), aggregation=joined, postprocess=None)
        key = (encoder.loaded.fingerprint, repr(precision), embedder.pooling, tuple(short.layers), keep_layers)
        if key in self._compiled:
            return
        self._compiled.add(key)
        from rwkv_sweep.ops.triton.common.ahead import compiled_ahead

        examples = [encoder.tokenize(REFERENCE_TEXTS), *batches]
        with current_device(encoder.device), compiled_ahead(encoder.device):
            for variant in [short, replace(short, keep_layers=True)] if keep_layers else [short]:
                for batch in examples:
                    variant.embed_tokens(batch)
                variant.rehearse_pairs(pairs)


def stand_ins(layers: Sequence[int], blocks: int) -> list[int]:
    """Layers whose forward launches every kernel that one for `layers` launches, in as few blocks as that takes.

    A block launches others if it is the first, if it is the last that runs, and if its output is asked for. The
    embedding behind all blocks needs all of them.

    Args:
        layers: the tokens' embedding (-1) runs no block.
        blocks: of the network; this number as a layer is the embedding behind them.
    """
    asked = set(layers)
    last = blocks - 1 if blocks in asked else max(asked)
    within = [layer for layer in sorted(asked) if 0 < layer < last]
    if blocks in asked:
        return sorted(asked & {-1, 0, last, blocks} | set(within[:1]))
    if last < BLOCKS:
        return sorted(asked)
    return sorted(asked & {-1, 0} | ({BLOCKS - 2} if within else set()) | {BLOCKS - 1})
