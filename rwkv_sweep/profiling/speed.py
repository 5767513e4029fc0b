"""The speed pass of a run: memory, throughput, latency and, where asked for, energy and overhead over final-layer
inference. Everything is warmed up first, so that nothing is compiled or allocated for the first time while it is timed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from rwkv_sweep.config.schema import AggregationConfig, MeasureConfig
from rwkv_sweep.data.splits import PairSplit
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.layer_encoder import batches
from rwkv_sweep.embedding.pooling import RESIDUAL, STATE, final_pooling, source_of
from rwkv_sweep.embedding.prompts import Tokenized
from rwkv_sweep.profiling.energy import measure_energy
from rwkv_sweep.profiling.latency import measure_latency
from rwkv_sweep.profiling.memory import MemoryWatch
from rwkv_sweep.profiling.overhead import measure_overhead
from rwkv_sweep.profiling.split_tokens import SplitTokens
from rwkv_sweep.profiling.throughput import measure_throughput
from rwkv_sweep.profiling.timing import MachineReference
from rwkv_sweep.records.results import write_latency, write_overhead, write_throughput

WARM_UP_SENTENCES = 8
GPU_BATCHES = 8
"""Batches of one timed round on a GPU, spread evenly over the lengths; on a CPU the one of median length is timed."""
CPU_FLOP = 2.5e10
"""On a CPU a timed batch holds no more tokens than so much arithmetic allows in all blocks of the model: less than half
a second's, and the same number for every layer, so that layers compare."""
LEAST_TOKENS = 512
"""... but so many at least: below, the matrix products are no longer those of a batch."""
GPU_FLOP = 2.4e13
"""As `CPU_FLOP` for a batch that is timed against another configuration, round after round: 8,192 tokens of Finch 1B6's
shape. With half of them, launching the kernels takes as long as running them in bf16; in fp32 a quarter is enough."""
MetricsAndTags = tuple[dict[str, float], dict[str, str]]


def measure_speed(
    embedder: Embedder,
    measure: MeasureConfig,
    split: PairSplit,
    read: SplitTokens,
    folder: Path,
    memory: MemoryWatch,
    seed: int,
) -> MetricsAndTags:
    """Time the first split; writes the samples into `folder`. Nothing here comes from the cache of vectors.

    Args:
        measure: what is timed, and for how long.
        split, read: its pairs and its tokens.
        folder: the run's.
        seed: of the bootstrap, and of the order in which configurations are timed.
        memory: of this run; restarted and stopped around a pass that is not timed.

    Returns:
        Metrics, and tags that say how single pairs ran, what the machine's reference is, whether the rate settled, and
        in what state the device was while its energy was counted.
    """
    metrics: dict[str, float] = {"data/tokens": read.tokens, "data/truncated": read.truncated}
    tags: dict[str, str] = {}
    pairs = split.first_pairs(max(measure.latency_pairs, measure.warmup_pairs, measure.overhead_pairs))
    timed = pairs[: measure.latency_pairs]
    parts = timed_batches(embedder, read.sample) if measure.throughput else []
    _warm_up(embedder, parts, timed, memory)
    if parts or timed:
        device = embedder.encoder.device
        reference = MachineReference(device)
        tags["speed.reference"] = reference.name
        batch_pass = partial(
            _time_batches, embedder, measure, parts, read.tokens / len(split.labels), reference, folder
        )
        pair_pass = partial(_time_pairs, embedder, timed, pairs[: measure.warmup_pairs], reference, folder)
        # Batches bring a GPU's clock up for the pairs.
        for timed_pass in (batch_pass, pair_pass) if device.type == "cuda" else (pair_pass, batch_pass):
            values, notes = timed_pass()
            metrics, tags = metrics | values, tags | notes
    if measure.overhead:
        compared = [pairs[index % len(pairs)] for index in range(measure.overhead_pairs)]
        batch = compared_batch(embedder, read)
        ratios, samples_ms = measure_overhead(
            _configurations(embedder), compared, batch, measure.overhead_batches, seed
        )
        metrics |= ratios
        write_overhead(folder, samples_ms)
    return metrics, tags


def _warm_up(
    embedder: Embedder, parts: Sequence[Tokenized], pairs: Sequence[tuple[str, str]], memory: MemoryWatch
) -> None:
    """Run every shape that will be timed, and read the peak memory of running them once all is compiled.

    On a GPU each batch runs twice: libraries choose kernels by shape, and what they try out must not count as memory.
    """
    if parts:
        embedder.embed_tokens(parts[0].select(range(min(WARM_UP_SENTENCES, len(parts[0].ids)))))
        if embedder.encoder.device.type == "cuda":
            for part in parts:
                embedder.embed_tokens(part)
    if pairs:
        embedder.prepare_pairs(pairs)
        embedder.score_pair(*pairs[0])
    memory.restart()
    for part in parts:
        embedder.embed_tokens(part)
    if pairs:
        embedder.score_pair(*pairs[0])
    memory.stop()


def _time_batches(
    embedder: Embedder,
    measure: MeasureConfig,
    parts: Sequence[Tokenized],
    per_pair: float,
    reference: MachineReference,
    folder: Path,
) -> MetricsAndTags:
    """Throughput, and energy where asked for. per_pair: tokens of a pair."""
    if not parts:
        return {}, {}
    device = embedder.encoder.device
    work = [(partial(embedder.embed_tokens, part), part.tokens) for part in parts]
    throughput = measure_throughput(work, measure.throughput_seconds, device, reference)
    write_throughput(folder, throughput.rates, throughput.reference)
    metrics, tags = throughput.metrics(), throughput.tags()
    metrics["throughput/pairs_per_s"] = metrics["throughput/tokens_per_s"] / per_pair
    metrics["throughput/tokens_per_batch"] = sum(part.tokens for part in parts) / len(parts)
    if measure.energy_seconds > 0:
        joules, states = measure_energy(work, per_pair, measure.energy_seconds, device)
        metrics, tags = metrics | joules, tags | states
    return metrics, tags


def _time_pairs(
    embedder: Embedder,
    timed: Sequence[tuple[str, str]],
    warm_up: Sequence[tuple[str, str]],
    reference: MachineReference,
    folder: Path,
) -> MetricsAndTags:
    """Latency of single pairs."""
    if not timed:
        return {}, {}
    latency = measure_latency(embedder.score_pair, timed, warm_up, embedder.encoder.device, reference)
    write_latency(folder, latency.samples_ms)
    return latency.metrics(), {"pairs": embedder.pair_path}


def _configurations(embedder: Embedder) -> dict[str, Embedder]:
    final = [embedder.encoder.loaded.model.config.num_hidden_layers]
    pooling = final_pooling(embedder.pooling)
    plain = AggregationConfig(name="none")
    compared = {
        "final": replace(embedder, layers=final, pooling=pooling, aggregation=plain, postprocess=None),
        "this": embedder,
    }
    if embedder.pooling != STATE and source_of(embedder.pooling) == RESIDUAL:
        compared["naive"] = replace(embedder, keep_layers=True)
    return compared


def timed_batches(embedder: Embedder, tokenized: Tokenized) -> list[Tokenized]:
    """The packed batches that are timed: of all lengths on a GPU, of median length on a CPU."""
    on_gpu = embedder.encoder.device.type == "cuda"
    batch_tokens = embedder.encoder.batch_tokens
    limit = batch_tokens if on_gpu else min(batch_tokens, _tokens_of(embedder, CPU_FLOP))
    parts = batches([len(ids) for ids in tokenized.ids], limit)
    filled = [sum(len(tokenized.ids[index]) for index in part) for part in parts]
    # The last one holds what is left over.
    whole = parts[:-1] if len(parts) > 1 and 2 * filled[-1] < filled[0] else parts
    count = min(GPU_BATCHES, len(whole)) if on_gpu else 1
    return [tokenized.select(whole[(2 * place + 1) * len(whole) // (2 * count)]) for place in range(count)]


def compared_batch(embedder: Embedder, read: SplitTokens) -> Tokenized:
    """The packed batch by which configurations are timed against each other: the fullest, on a GPU see `GPU_FLOP`."""
    limit = embedder.encoder.batch_tokens
    if embedder.encoder.device.type == "cuda":
        slow = embedder.encoder.loaded.kernel_tags.get("precision") == "fp32"
        limit = min(limit, _tokens_of(embedder, GPU_FLOP / 4 if slow else GPU_FLOP))
    return read.full_batch(limit)


def _tokens_of(embedder: Embedder, flop: float) -> int:
    """Tokens that take `flop` in all blocks: a power of two. A block of an RWKV or a transformer has about 13 weights
    per squared width."""
    shape = embedder.encoder.loaded.model.config
    tokens = flop / (2 * 13 * shape.hidden_size**2 * shape.num_hidden_layers)
    return max(LEAST_TOKENS, 1 << max(0, int(tokens).bit_length() - 1))
