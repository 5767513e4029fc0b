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
    """Bars, a panel for each record, into `path` with .svg and .png."""
    import altair as alt

    from rwkv_sweep.report.charts.chart import View
    from rwkv_sweep.report.charts.files import write_views

    charts = []
    for title, shown in panels:
        bound = max(x for name, x in shown.items() if name.startswith(ALONE))
        rows = [
            {"name": name, "rate": x, "color": color_of(name), "text": f"{x:,.0f}  ({x / bound:.1%})"}
            for name, x in shown.items()
        ]
        bars = alt.Chart(alt.Data(values=rows), title=title, width=420).encode(
            y=alt.Y("name:N", title=None, sort=list(shown)),
            x=alt.X(
                "rate:Q",
                title="tokens/s (and share of the matrix products), logarithmic",
                scale=alt.Scale(type="log", domain=[min(shown.values()) / 2, bound * 8]),
            ),
        )
        colored = bars.mark_bar().encode(x2=alt.datum(min(shown.values()) / 2), color=alt.Color("color:N", scale=None))
        charts.append(colored + bars.mark_text(align="left", dx=4).encode(text="text:N"))
    figure = alt.vconcat(*charts)
    write_views([(path.name, View(path.name, figure.to_dict(), []))], None, path.parent)


def main() -> None:
    args = arguments()
    draw(
        [(title, rates(json.loads(path.read_text()))) for title, path in zip(args.titles, args.records, strict=True)],
        args.figure,
    )


if __name__ == "__main__":
    main()
