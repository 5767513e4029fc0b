"""The runs of a sweep over precisions: what is compared with what, and the numbers both answer and figures need.

Runs that differ in anything but their precision (layer, data, ...) are never compared: each kind is a group of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rwkv_sweep.evaluate import Interval
from rwkv_sweep.report.arms import differing, interval, metric
from rwkv_sweep.results import FINISHED, UNSUPPORTED, Result

KEYS = ("base", "quantization", "blocks", "modules", "double_quantization")
OWN = ("precision", *(f"precision.{key}" for key in KEYS))
TOLERATED = 0.02
"""Spearman that a precision may lose or gain against fp32 before it is flagged."""
TOKENS_PER_S, SPEARMAN, MIB = "throughput/tokens_per_s", "quality/spearman", "memory/weights_without_embedding_mib"
SPEEDUP = "speedup/over_fp32"


@dataclass(frozen=True)
class PrecisionGroup:
    """Finished runs that share everything but their precision. name: what sets this group apart; empty where one."""

    name: str
    runs: list[Result]

    @property
    def full(self) -> Result | None:
        """The run in fp32."""
        return self.plain("float32")

    def plain(self, base: str) -> Result | None:
        """The run in this base, without quantization."""
        return next((run for run in self.runs if _base(run) == base and not is_quantized(run)), None)

    def base(self, run: Result) -> Result | None:
        """The run without quantization that a quantized one must be held against; None for any other."""
        return self.plain(_base(run)) if is_quantized(run) else None

    @property
    def quantized(self) -> list[Result]:
        return [run for run in self.runs if is_quantized(run)]

    def label(self, run: Result) -> str:
        """`fp16`, `nf4`, `nf4, blocks 3`; keys are told where runs of one name differ in them."""
        name = str(run.params.get("precision"))
        namesakes = [each for each in self.runs if each.params.get("precision") == run.params.get("precision")]
        told = [
            f"{key.replace('_', ' ')} {run.params.get(f'precision.{key}')}"
            for key in KEYS
            if len({str(each.params.get(f"precision.{key}")) for each in namesakes}) > 1
        ]
        return ", ".join([name, *told])

    def single_blocks(self) -> dict[int, Result]:
        """Runs that quantize one block alone, by its number, in order; empty unless two or more do."""
        found = {
            int(block): run for run in self.quantized if (block := str(run.params.get("precision.blocks"))).isdigit()
        }
        return dict(sorted(found.items())) if len(found) > 1 else {}


def precision_groups(results: Sequence[Result]) -> list[PrecisionGroup]:
    """The finished model runs of a sweep in groups, in the order of their first runs."""
    runs = [result for result in results if result.kind == "model" and result.status == FINISHED]
    keys = differing(runs, OWN)
    found: dict[str, PrecisionGroup] = {}
    for run in runs:
        name = ", ".join(f"{key}={run.params.get(key)}" for key in keys)
        found.setdefault(name, PrecisionGroup(name, [])).runs.append(run)
    return list(found.values())


def unsupported(results: Sequence[Result]) -> dict[str, str]:
    """Precisions that this machine could not run, with the reason."""
    told = [result for result in results if result.status == UNSUPPORTED]
    return {
        str(result.params.get("precision")): (result.error or {}).get("message", "no reason was recorded")
        for result in told
    }


def is_quantized(run: Result) -> bool:
    """Whether the run quantizes anything."""
    return (
        run.params.get("precision.quantization") not in (None, "none") and run.params.get("precision.blocks") != "none"
    )


def over_full(run: Result) -> Interval | None:
    """Speed in packed batches over that of fp32, measured turn by turn; 1 for fp32 itself."""
    if _base(run) == "float32" and not is_quantized(run):
        return Interval(1.0, 1.0, 1.0)
    return interval(run, SPEEDUP)


def over_base(group: PrecisionGroup, run: Result) -> Interval | None:
    """Speed in packed batches over that of the run's base: the quotient of their ratios to fp32."""
    base = group.base(run)
    own, theirs = over_full(run), over_full(base) if base is not None else None
    if own is None or theirs is None:
        return None
    ratio = own.value / theirs.value
    # Each was measured against fp32 on its own, so that relative widths add as squares.
    up = math.hypot(own.hi / own.value - 1, theirs.value / theirs.lo - 1)
    down = math.hypot(own.value / own.lo - 1, theirs.hi / theirs.value - 1)
    return Interval(ratio, ratio / (1 + down), ratio * (1 + up))


def is_flagged(run: Result) -> bool:
    """Whether Spearman is further from fp32's than `TOLERATED`."""
    delta = metric(run, "parity/spearman_delta")
    return delta is not None and abs(delta) > TOLERATED


def front(runs: Sequence[Result], gain: Callable[[Result], float | None]) -> list[Result]:
    """The runs that no other beats in both Spearman and `gain` (more is better), by rising gain."""
    placed = [
        (value, score, run)
        for run in runs
        if (value := gain(run)) is not None and (score := metric(run, SPEARMAN)) is not None
    ]
    best = [
        (value, run)
        for value, score, run in placed
        if not any(v >= value and s >= score and (v, s) != (value, score) for v, s, _ in placed)
    ]
    return [run for _, run in sorted(best, key=lambda each: each[0])]


def speed_of(run: Result) -> float | None:
    """What a front over speed goes by: speed over fp32's."""
    found = over_full(run)
    return found.value if found else None


def smallness(run: Result) -> float | None:
    """Minus the MiB of weights without the embedding table."""
    value = metric(run, MIB)
    return None if value is None else -value


def _base(run: Result) -> str:
    return str(run.params.get("precision.base"))
