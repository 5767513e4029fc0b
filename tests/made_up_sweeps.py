"""Folders of sweeps as finished sweeps leave them, with made-up numbers: for tests of what reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from rwkv_sweep.config.schema import DatasetConfig
from rwkv_sweep.data.splits import load_splits
from rwkv_sweep.evaluation.metric_names import metric_name
from rwkv_sweep.records.results import FAILED, FINISHED, Result, write_latency, write_pairs
from rwkv_sweep.records.sweep_record import SweepRecord

TAGS = {"device_name": "Made-up CPU", "threads": "2", "version.torch": "2.10.0", "commit": "abc"}
SHARED = {
    "model": "tiny",
    "dataset": "pairs",
    "dataset.splits": "[all]",
    "aggregation": "none",
    "postprocess": "none",
    "bootstrap": 2000,
}
PAIRS = 12


def around(key: str, value: float, reach: float) -> dict[str, float]:
    return {key: value, f"{key}_lo": value - reach, f"{key}_hi": value + reach}


def write_pairs_file(path: Path, rows: int = PAIRS) -> Path:
    """A pair file of `rows` pairs, among them characters that markup must not swallow."""
    lines = [f"Sentence {row} <b>bold</b> & </script>\tAnother, number {row}\t{row % 2}" for row in range(rows)]
    path.write_text("\n".join(["sentence1\tsentence2\tlabel", *lines]) + "\n", encoding="utf-8")
    return path


class SweepWriter:
    """Writes one sweep, run by run.

    root: its folder. pairs: of the pair file that it scored. report: the research question. jobs: how many were to be.
    splits: of the pair file, by name or slice.
    """

    def __init__(
        self,
        root: Path,
        pairs: int = PAIRS,
        report: str | None = None,
        jobs: int | None = None,
        splits: Sequence[str] = ("all",),
    ) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root, self.count = root, 0
        file = write_pairs_file(root / "pairs.tsv", pairs)
        self.config = DatasetConfig(name="pairs", source="file", path=str(file), splits=list(splits))
        self.splits = load_splits(self.config)
        self.split = self.splits[0]
        record = SweepRecord("layer=1,3 precision=fp32,bf16", None, ["layer", "precision"], ["mean"], report, {})
        SweepRecord(**{**asdict(record), "started": 1.8e9, "multirun": True, "jobs": jobs, "cwd": str(root)}).save(root)

    def run(
        self,
        spearman: float,
        ms: float,
        seed: int = 0,
        tags: dict[str, str] | None = None,
        compared: bool = True,
        more: Mapping[str, float] | None = None,
        dotted: Mapping[str, Any] | None = None,
        **params: Any,
    ) -> Path:
        """A finished run: its Spearman, its time of a pair, params by name (`aggregation_normalize` has a dot).

        compared: whether it was timed against final-layer inference, interleaved. more: metrics. dotted: params whose
        names have dots.
        """
        given = {**SHARED, "layer": "final", "depth": 12, "precision": "fp32", **self._given(), **_dotted(params)}
        given |= dotted or {}
        layer = str(given["layer"])
        given["depth"] = (dotted or {}).get("depth", int(layer) + 1 if layer.isdigit() else 12)
        metrics = {
            **around("quality/spearman", spearman, 0.05),
            **self._quality(spearman),
            **(around("overhead/latency_ratio", ms / 10, 0.03) if compared else {}),
            **(around("overhead/batch_ratio", ms / 10, 0.03) if compared else {}),
            **around("baseline/word_overlap/delta", spearman - 0.2, 0.02),
            "baseline/word_overlap/delta_p": 0.001,
            **{"latency/mean_ms": ms, "latency/p99_ms": 1.5 * ms, "throughput/tokens_per_s": 90_000 / ms},
            **{"memory/weights_mib": 40.0 if given["precision"] == "fp32" else 20.0, "memory/process_peak_mib": 900.0},
        }
        if given["precision"] != "fp32":
            metrics |= {"parity/cosine_mean": 0.9999, "parity/cosine_p01": 0.999}
            metrics |= around("parity/spearman_delta", -0.001, 0.004)
        metrics |= more or {}
        return self._write(Result(self._name(given), "model", FINISHED, given, metrics, self._tags(tags)), ms, seed)

    def failed(self, message: str, status: str = FAILED, **params: Any) -> Path:
        given = {**SHARED, "layer": "final", "precision": "fp32", **_dotted(params)}
        error = {"kind": "OutOfMemory", "message": message, "traceback": "Traceback <script>"}
        return self._write(Result(self._name(given), "model", status, given, error=error))

    def baseline(self, name: str = "word_overlap", spearman: float = 0.2, ms: float = 0.1, seed: int = 0) -> Path:
        params = {"model": name, "dataset": "pairs", **self._given()}
        metrics = {**around("quality/spearman", spearman, 0.05), "latency/mean_ms": ms}
        metrics |= self._quality(spearman)
        result = Result(name, "baseline", FINISHED, params, metrics, self._tags(None))
        return self._write(result, ms, seed, folder=self.root / "baselines" / f"{name}-1")

    def _given(self) -> dict[str, str]:
        return {"dataset.splits": f"[{','.join(self.config.splits)}]"}

    def _quality(self, spearman: float) -> dict[str, float]:
        """On each later split a tenth lower than on the one before."""
        actual: dict[str, float] = {"quality/pairs": len(self.split)}
        for number, split in enumerate(self.splits):
            name = f"quality/{metric_name(split.name)}"
            actual |= {**around(f"{name}/spearman", spearman - 0.1 * number, 0.05), f"{name}/pairs": len(split)}
        return actual

    def _tags(self, more: dict[str, str] | None) -> dict[str, str]:
        return {**TAGS, "data_fingerprint": self.split.fingerprint, **(more or {})}

    def _name(self, params: dict[str, Any]) -> str:
        return f"layer={params['layer']},precision={params['precision']},number={self.count}"

    def _write(self, result: Result, ms: float = 0.0, seed: int = 0, folder: Path | None = None) -> Path:
        if folder is None:
            folder = self.root / str(self.count)
            self.count += 1
        (folder / ".hydra").mkdir(parents=True)
        OmegaConf.save({"dataset": asdict(self.config)}, folder / ".hydra" / "config.yaml")
        result.save(folder)
        if result.status == FINISHED:
            random = np.random.default_rng(seed)
            rows = []
            for split in self.splits:
                scores = 0.5 + 0.1 * split.labels + random.normal(0, 0.1, len(split))
                both = zip(split.labels.tolist(), scores.tolist(), strict=True)
                rows += [(split.name, row, label, score) for row, (label, score) in enumerate(both)]
            write_pairs(folder, rows)
            write_latency(folder, (ms * random.lognormal(0, 0.05, 40)).tolist())
        return folder


def _dotted(params: dict[str, Any]) -> dict[str, Any]:
    return {key.replace("_", ".", 1) if key.startswith("aggregation_") else key: value for key, value in params.items()}
