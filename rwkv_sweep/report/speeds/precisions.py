"""The runs of a sweep over precisions: what is compared with what, and the numbers both answer and figures need.

Runs that differ in anything but their precision (layer, data, ...) are never compared: each kind is a group of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rwkv_sweep.records.results import FINISHED, UNSUPPORTED, Result
from rwkv_sweep.report.common.run_groups import differing, metric

KEYS = ("base", "quantization", "blocks", "modules", "double_quantization", "calibration", "calibration_fit")
OWN = ("precision", *(f"precision.{key}" for key in KEYS))
TOLERATED = 0.02
"""Spearman that a precision may lose or gain against fp32 before it is flagged."""
TOKENS_PER_S, SPEARMAN, MIB = "throughput/tokens_per_s", "quality/spearman", "memory/weights_without_embedding_mib"


@dataclass(frozen=True)
class PrecisionGroup:
    """Finished runs that share everything but their precision. name: what sets this group apart; empty where one."""

    name: str
    runs: list[Result]

    @property
    def full(self) -> Result | None:
        """The run in fp32."""
        return next((run for run in self.runs if is_full(run)), None)

    def plain(self, base: str) -> Result | None:
        """The run in this base, without quantization."""
        return next((run for run in self.runs if _base(run) == base and not is_quantized(run)), None)

    def base(self, run: Result) -> Result | None:
        """The run without quantization that a quantized one is compared with; None for any other."""
        return self.plain(_base(run)) if is_quantized(run) else None

    @property
    def quantized(self) -> list[Result]:
        return [run for run in self.runs if is_quantized(run)]

    def label(self, run: Result) -> str:
        """`fp16`, `nf4`, `nf4, blocks 3`; keys are named where runs of one name differ in them."""
        name = str(run.params.get("precision"))
        namesakes = [other for other in self.runs if other.params.get("precision") == run.params.get("precision")]
        varied = [
            f"{key.replace('_', ' ')} {run.params.get(f'precision.{key}')}"
            for key in KEYS
            if run.params.get(f"precision.{key}") is not None
            and len({str(other.params.get(f"precision.{key}")) for other in namesakes}) > 1
        ]
        return ", ".join([name, *varied])

    def single_blocks(self) -> dict[int, Result]:
        """Runs that quantize one block alone, by its number, in order; empty unless two or more do."""
        by_block = {
            int(block): run for run in self.quantized if (block := str(run.params.get("precision.blocks"))).isdigit()
        }
        return dict(sorted(by_block.items())) if len(by_block) > 1 else {}


def precision_groups(results: Sequence[Result]) -> list[PrecisionGroup]:
    """The finished model runs of a sweep in groups, in the order of their first runs."""
    runs = [result for result in results if result.kind == "model" and result.status == FINISHED]
    keys = differing(runs, OWN)
    groups: dict[str, PrecisionGroup] = {}
    for run in runs:
        name = ", ".join(f"{key}={run.params.get(key)}" for key in keys)
        groups.setdefault(name, PrecisionGroup(name, [])).runs.append(run)
    return list(groups.values())


def unsupported_precisions(results: Sequence[Result]) -> dict[str, str]:
    """Precisions that this machine could not run, with the reason."""
    refused = [result for result in results if result.status == UNSUPPORTED]
    return {
        str(result.params.get("precision")): (result.error or {}).get("message", "no reason was recorded")
        for result in refused
    }


def is_quantized(run: Result) -> bool:
    """Whether the run quantizes anything."""
    return (
        run.params.get("precision.quantization") not in (None, "none") and run.params.get("precision.blocks") != "none"
    )


def is_full(run: Result) -> bool:
    """Whether the run is in fp32 without quantization."""
    base = run.params.get("precision.base")
    return not is_quantized(run) and (str(run.params.get("precision")) == "fp32" if base is None else base == "float32")


def is_flagged(run: Result) -> bool:
    """Whether Spearman is further from fp32's than `TOLERATED`."""
    delta = metric(run, "parity/spearman_delta")
    return delta is not None and abs(delta) > TOLERATED


def _base(run: Result) -> str:
    return str(run.params.get("precision.base"))
