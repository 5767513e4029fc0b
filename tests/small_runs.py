"""Finished runs of a small model with random weights in a file, made by the code of a job, without its command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from rwkv_sweep import Encoder
from rwkv_sweep.api.composing import composed
from rwkv_sweep.config.params import flat_params
from rwkv_sweep.config.schema import RunConfig
from rwkv_sweep.data.splits import load_splits
from rwkv_sweep.records.results import FAILED, FINISHED, Result, read_scores
from rwkv_sweep.records.sweep_record import SweepRecord
from rwkv_sweep.sweep.runs.job import Job, Place
from rwkv_sweep.sweep.runs.measuring import attempt
from rwkv_sweep.sweep.runs.process import Process
from rwkv_sweep.utils.stage_timer import Stopwatch
from tests.small_models import small_lm

WORDS = ("cat", "mat", "bank", "rates", "rain", "north", "prices", "May")
QUALITY_ONLY = ("measure.latency_pairs=0", "measure.throughput=false", "baselines=[]", "bootstrap=20", "device=cpu")


def small_checkpoint(folder: Path, **sizes: int) -> Path:
    """Of a network over bytes; every block changes its input."""
    small_lm(**{"hidden_size": 32, "num_blocks": 3, "head_size": 8, **sizes}).save_pretrained(folder)
    return folder


def small_pairs(folder: Path) -> Path:
    """A folder with two splits of pairs, made of the same few words."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for split, count in (("train", 60), ("validation", 30)):
        rows = ["sentence1\tsentence2\tlabel"]
        for number in range(count):
            first, second = (" ".join(random.choice(WORDS, 5)) for _ in range(2))
            rows.append(f"{first} {split} {number}.\t{second}!\t{number % 2}")
        (folder / f"{split}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def small_config(checkpoint: Path, pairs: Path, *overrides: str) -> RunConfig:
    """Of a run on the split `validation` of `small_pairs`."""
    model = ("model=local", f"model.path={checkpoint}", "model.tokenizer=bytes")
    data = ("dataset=pairs", f"dataset.path={pairs}", "dataset.splits=[validation]")
    run = composed((*model, *data, *QUALITY_ONLY, *overrides), {})
    return replace(run, store=replace(run.store, enabled=False), tracking=replace(run.tracking, enabled=False))


def finish_run(run: RunConfig, folder: Path) -> Result:
    """Carry it out in `folder`, as a job does."""
    folder.mkdir(parents=True, exist_ok=True)
    planned = Result(folder.name, "model", FAILED, flat_params(run), started=1.0, id=f"run-{folder.name}")
    place = Place(folder, folder, planned.name, SweepRecord(planned.name, None, [], [], None, {}))
    result = attempt(Job(run, planned, place, Stopwatch(), Process()))
    result.save(folder)
    assert result.status == FINISHED, result.error
    return result


def score_difference(encoder: Encoder, folder: Path) -> float:
    """The largest difference between a score of the run in `folder` and the same score by the encoder."""
    (split,) = load_splits(encoder.config.dataset)
    first, second = (encoder.encode(list(texts)) for texts in (split.sentences1, split.sentences2))
    scores = np.array(read_scores(folder, "validation"))
    return float(np.abs(encoder.similarity_pairwise(first, second) - scores).max())
