"""Tokens per second of one forward, ours beside its lower bound and other programs, as bars: one panel for each record.

Command: python -m benchmarks.plot forward_cpu.json forward_gpu.json --titles "CPU, fp32" "H100, bf16" --figure forward
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

OURS, BOUND, OTHER = "#0072b2", "#999999", "#e69f00"
"""Distinct for colour-blind readers too (Okabe and Ito)."""
ALONE = "matrix products alone"
SHOWN = {
    "GEMM only, torch.mm": f"{ALONE}, torch.mm",
    "GEMM only, oneDNN": f"{ALONE}, oneDNN",
    "rwkv_sweep": "rwkv_sweep",
    "transformers": "transformers, RWKV-4",
    "token loop": "one sentence at a time, plain PyTorch",
    "bf16, GEMM only, one by one": ALONE,
    "bf16, fused": "rwkv_sweep",
    "bf16, fused, all layers pooled": "rwkv_sweep, all 24 blocks pooled",
    "bf16, eager PyTorch": "plain PyTorch blocks, packed",
    "bf16, naive loop": "one sentence at a time, plain PyTorch",
    "peer, rwkv package, bf16": "rwkv package",
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", type=Path, nargs="+", help="JSON of forward_cpu or forward_gpu")
    parser.add_argument("--titles", nargs="+", required=True, help="one for each record")
    parser.add_argument("--figure", type=Path, required=True, help="without its ending: .svg and .png are written")
    return parser.parse_args()


def rates(record: dict[str, Any]) -> dict[str, float]:
    """Tokens per second by name, fastest first."""
    if "tokens_per_s" in record:
        shown = {
            SHOWN.get(name, name.replace("rwkv,", "rwkv package,")): x for name, x in record["tokens_per_s"].items()
        }
    else:
        shown = {SHOWN[name]: x for name, x, unit in record["rows"] if unit == "tokens/s" and name in SHOWN}
    return dict(sorted(shown.items(), key=lambda item: -item[1]))


def color_of(name: str) -> str:
    """One colour each for lower bounds, for ours and for other programs."""
    return BOUND if name.startswith(ALONE) else OURS if name.startswith("rwkv_sweep") else OTHER


def draw(panels: list[tuple[str, dict[str, float]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        len(panels),
        figsize=(8, 0.45 * sum(len(shown) + 1.6 for _, shown in panels)),
        layout="constrained",
        squeeze=False,
    )
    for axis, (title, shown) in zip(axes[:, 0], panels, strict=True):
        bound = max(x for name, x in shown.items() if name.startswith(ALONE))
        colors = [color_of(name) for name in shown]
        bars = axis.barh(list(shown), list(shown.values()), color=colors)
        axis.bar_label(bars, [f" {x:,.0f}  ({x / bound:.1%})" for x in shown.values()], fontsize=9)
        axis.set(xscale="log", title=title, xlim=(min(shown.values()) / 2, bound * 8))
        axis.invert_yaxis()
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1, 0].set_xlabel("tokens/s (and share of the matrix products), logarithmic")
    for ending in (".svg", ".png"):
        figure.savefig(path.with_suffix(ending), dpi=110)


def main() -> None:
    args = arguments()
    draw(
        [(title, rates(json.loads(path.read_text()))) for title, path in zip(args.titles, args.records, strict=True)],
        args.figure,
    )


if __name__ == "__main__":
    main()
