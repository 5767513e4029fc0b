"""The speed pass of a run: throughput, latency and, where asked for, overhead over final-layer inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from rwkv_sweep.config import AggregationConfig, RunConfig
from rwkv_sweep.dataset import PairSplit
from rwkv_sweep.embedder import Embedder
from rwkv_sweep.energy import measure_energy
from rwkv_sweep.extract import RwkvEncoder, batches
from rwkv_sweep.measure import measure_latency, measure_throughput
from rwkv_sweep.overhead import measure_overhead
from rwkv_sweep.pooling import STATE
from rwkv_sweep.prompt import Tokenized
from rwkv_sweep.results import write_latency, write_overhead
from rwkv_sweep.texts import Texts

WARM_UP_SENTENCES = 8
HELD_SENTENCES = 16_384
"""Token ids are held of this many sentences; of a larger split of a random choice, while all are counted."""


Found = tuple[dict[str, float], dict[str, str]]
"""Metrics and tags."""


def measure_speed(embedder: Embedder, run: RunConfig, split: PairSplit, folder: Path) -> Found:
    """Time the first split; writes the samples into `folder`. Nothing here comes from the store.

    Returns:
        Metrics, and tags that say how single pairs ran, and in what state the device was while its energy was counted.
    """
    tokenized, tokens, truncated = _read(embedder, split, run.seed)
    metrics: dict[str, float] = {"data/tokens": tokens, "data/truncated": truncated}
    tags: dict[str, str] = {}
    pairs = split.first_pairs(max(run.measure.latency_pairs, run.measure.warmup_pairs, run.measure.overhead_pairs))
    passes = [
        partial(_time_batches, embedder, run, tokenized, tokens / len(split.labels)),
        partial(_time_pairs, embedder, run, pairs, folder),
    ]
    # Batches bring a GPU's clock up for the pairs; on a CPU pairs are a cheaper warm-up for batches than the reverse.
    for timed_pass in passes if embedder.encoder.device.type == "cuda" else reversed(passes):
        found, notes = timed_pass()
        metrics, tags = metrics | found, tags | notes
    if run.measure.overhead:
        timed = [pairs[index % len(pairs)] for index in range(run.measure.overhead_pairs)]
        batch = _full_batch(tokenized, run.batch_tokens)
        ratios, samples_ms = measure_overhead(_arms(embedder), timed, batch, run.measure.overhead_batches, run.seed)
        metrics |= ratios
        write_overhead(folder, samples_ms)
    return metrics, tags


def _time_batches(embedder: Embedder, run: RunConfig, tokenized: Tokenized, per_pair: float) -> Found:
    """Throughput, and energy where asked for. per_pair: tokens of a pair."""
    if not run.measure.throughput:
        return {}, {}
    device = embedder.encoder.device
    parts = _shuffled_batches(tokenized, run.batch_tokens, run.seed)
    # A GPU's libraries choose kernels by shape, so it is warmed with a whole batch. A CPU is warm from the pairs, or
    # else from a few sentences.
    if device.type == "cuda":
        embedder.embed_tokens(parts[0])
    elif not run.measure.latency_pairs:
        embedder.embed_tokens(parts[0].select(range(min(WARM_UP_SENTENCES, len(parts[0].ids)))))
    work = [(partial(embedder.embed_tokens, part), part.tokens) for part in parts]
    found = measure_throughput(work, run.measure.throughput_seconds, device)
    metrics = found | {"throughput/pairs_per_s": found["throughput/tokens_per_s"] / per_pair}
    if run.measure.energy_seconds <= 0:
        return metrics, {}
    joules, states = measure_energy(work, per_pair, run.measure.energy_seconds, device)
    return metrics | joules, states


def _time_pairs(embedder: Embedder, run: RunConfig, pairs: Sequence[tuple[str, str]], folder: Path) -> Found:
    """Latency of single pairs."""
    if not run.measure.latency_pairs:
        return {}, {}
    warm_up, timed = pairs[: run.measure.warmup_pairs], pairs[: run.measure.latency_pairs]
    embedder.prepare_pairs(timed)
    latency = measure_latency(embedder.score_pair, timed, warm_up, embedder.encoder.device)
    write_latency(folder, latency.samples_ms)
    return latency.metrics(), {"pairs": embedder.pair_path}


def speed_sample(embedder: Embedder, run: RunConfig, split: PairSplit) -> tuple[Tokenized, list[tuple[str, str]]]:
    """A full packed batch of a split, and pairs of it, for timing two models against each other."""
    tokenized, _, _ = _read(embedder, split, run.seed)
    return _full_batch(tokenized, run.batch_tokens), split.first_pairs(run.measure.latency_pairs or len(split))


_last_read: tuple[object, tuple[Tokenized, int, int]] | None = None


def _read(embedder: Embedder, split: PairSplit, seed: int) -> tuple[Tokenized, int, int]:
    """Tokens of (at most `HELD_SENTENCES` of) the sentences, and of all how many tokens and how many cut sentences.

    The last answer is kept: the jobs of a sweep mostly read the same, and no timing is of this.
    """
    global _last_read
    encoder = embedder.encoder
    tokenizer = encoder.loaded.tokenizer
    key = (tokenizer.name, tokenizer.fingerprint, repr(encoder.prompt), encoder.max_tokens, split.fingerprint, seed)
    if _last_read is None or _last_read[0] != key:
        _last_read = (key, _tokens_of(encoder, split.sentences, seed))
    return _last_read[1]


def _tokens_of(encoder: RwkvEncoder, sentences: Texts, seed: int) -> tuple[Tokenized, int, int]:
    count = len(sentences)
    if count <= HELD_SENTENCES:
        held = encoder.tokenize(sentences)
        return held, held.tokens, held.truncated
    held = encoder.tokenize(sentences.take(np.random.default_rng(seed).permutation(count)[:HELD_SENTENCES]))
    tokens = truncated = 0
    for first in range(0, count, HELD_SENTENCES):
        part = encoder.tokenize(sentences[first : first + HELD_SENTENCES])
        tokens, truncated = tokens + part.tokens, truncated + part.truncated
    return held, tokens, truncated


def _arms(embedder: Embedder) -> dict[str, Embedder]:
    final = [embedder.encoder.loaded.model.config.num_hidden_layers]
    # A WKV state has no final layer; the mean is what final-layer inference usually takes.
    pooling = "mean" if embedder.pooling == STATE else embedder.pooling
    plain = AggregationConfig(name="none")
    arms = {
        "final": replace(embedder, layers=final, pooling=pooling, aggregation=plain, postprocess=None),
        "this": embedder,
    }
    if embedder.pooling != STATE:
        arms["naive"] = replace(embedder, keep_layers=True)
    return arms


def _shuffled_batches(tokenized: Tokenized, batch_tokens: int, seed: int) -> list[Tokenized]:
    """All sentences in packed batches, in random order: the longest come first otherwise."""
    parts = batches([len(ids) for ids in tokenized.ids], batch_tokens)
    return [tokenized.select(parts[index]) for index in np.random.default_rng(seed).permutation(len(parts))]


def _full_batch(tokenized: Tokenized, batch_tokens: int) -> Tokenized:
    """The fullest packed batch of these sentences."""
    lengths = [len(ids) for ids in tokenized.ids]
    fullest = max(batches(lengths, batch_tokens), key=lambda batch: sum(lengths[index] for index in batch))
    return tokenized.select(fullest)
