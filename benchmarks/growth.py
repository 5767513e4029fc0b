"""Time and memory against the number of pairs, the length of sentences, and the depth and number of layers.

Pairs: the real command, quality alone, in a process of its own for each size, on a narrow checkpoint of random weights
and made-up pairs of eight tokens: what grows is the program, not the network. Beyond the pooled vectors the memory of
the largest size should be that of the smallest. Length and layers: the embedded model's forward, packed batches.

Command: make bench-growth
         python -m benchmarks.growth --pairs 1000 10000 100000 --out growth.json --figure growth
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does

import torch

from benchmarks.common import TINY, benchmark_parser, load_encoder, samples_s, write_record
from rwkv_sweep.embedding.layer_encoder import RwkvEncoder
from rwkv_sweep.embedding.prompts import Tokenized
from rwkv_sweep.hardware.devices import device_tags
from rwkv_sweep.models.rwkv6.export import Rwkv6ForCausalLM
from rwkv_sweep.models.rwkv6.initialization import initialize
from rwkv_sweep.models.rwkv6.network import Rwkv6Config
from rwkv_sweep.profiling.memory import MIB, peak_bytes

CPU = torch.device("cpu")
HIDDEN = 32
TOKENS = 16_384
"""Of each point of the lengths and of the layers."""
LENGTHS = (8, 32, 128, 512, 2048, 4096)
DEPTHS = (0, 2, 5, 8, 11)
REPEATS = 3
ROOT = Path(__file__).parent.parent

Row = dict[str, float]


def arguments() -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--pairs", type=int, nargs="*", default=[1000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--figure", type=Path, help="draw them into this path, .svg and .png")
    return parser.parse_args()


def pairs_growth(sizes: Iterable[int], threads: int) -> list[Row]:
    """One process for each number of pairs."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        model, file = Path(folder) / "model", Path(folder) / "pairs.tsv"
        shape = Rwkv6Config(vocab_size=256, hidden_size=HIDDEN, num_hidden_layers=1, head_size=8)
        network = Rwkv6ForCausalLM(shape)
        initialize(network, seed=0, zero_outputs=False)
        network.save_pretrained(model)
        for pairs in sizes:
            write_pairs(file, pairs)
            seconds, peak = run_command(model, file, Path(folder) / f"out{pairs}", threads)
            # Both sentences of each pair, of the layer asked for and of the final layer it is compared with.
            vectors = 2 * 2 * pairs * HIDDEN * 4 / MIB
            row = {"pairs": pairs, "seconds": seconds, "peak_mib": peak, "pooled_vectors_mib": vectors}
            print(
                f"{pairs:>10,} pairs {seconds:9.1f} s {peak:9,.0f} MiB, pooled vectors {vectors:7,.1f} MiB", flush=True
            )
            rows.append(row)
    return rows


def write_pairs(file: Path, pairs: int) -> None:
    """Made-up pairs: two random words of three letters each, label 1 where they are the same."""
    choose = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    with file.open("w", encoding="utf-8") as out:
        out.write("sentence1\tsentence2\tlabel\n")
        for number in range(pairs):
            one, other = (" ".join("".join(choose.choices(letters, k=3)) for _ in range(2)) for _ in range(2))
            out.write(f"{one}.\t{one if number % 2 else other}!\t{number % 2}\n")


def run_command(model: Path, file: Path, out: Path, threads: int) -> tuple[float, float]:
    """Seconds, and MiB of the most memory the process ever had."""
    command = [sys.executable, "-m", "rwkv_sweep", "layer=0", "model=local", f"model.path={model}"]
    command += ["model.tokenizer=bytes", "dataset=pairs", f"dataset.path={file}", "baselines=[word_overlap]"]
    command += ["measure.latency_pairs=0", "measure.throughput=false", "bootstrap=20", "store.enabled=false"]
    command += ["tracking.enabled=false", f"hydra.run.dir={out}", f"device.threads={threads}", "device=cpu"]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed: {errors.decode()[-500:]}")
    return time.perf_counter() - start, usage.ru_maxrss / (MIB if sys.platform == "darwin" else 1024)


def sentences_of(length: int) -> Tokenized:
    """`TOKENS` random tokens in sentences of this length."""
    ids = torch.randint(1, 1000, (TOKENS // length, length), generator=torch.Generator().manual_seed(0)).tolist()
    return Tokenized(ids, [(0, length)] * len(ids), 0)


def forward_row(encoder: RwkvEncoder, tokenized: Tokenized, layers: list[int]) -> Row:
    def work() -> object:
        return encoder.encode_tokens(tokenized, layers, ["mean"])

    fastest = min(samples_s(work, REPEATS, CPU))
    return {"tokens_per_s": TOKENS / fastest, "peak_mib": peak_bytes(work, CPU) / MIB}


def forward_growth(name: str, cases: Iterable[tuple[int, Tokenized, list[int]]]) -> list[Row]:
    encoder, rows = load_encoder(TINY, "fp32", CPU, max(LENGTHS), 4096), []
    for value, tokenized, layers in cases:
        row = {name: float(value), **forward_row(encoder, tokenized, layers)}
        print(f"{name} {value:>5} {row['tokens_per_s']:9,.0f} tokens/s {row['peak_mib']:8.1f} MiB", flush=True)
        rows.append(row)
    return rows


def draw(record: dict[str, Any], stem: Path) -> None:
    """Speed or time, and peak memory, against pairs, length, depth and layers kept, into `stem` with .svg and .png."""
    import altair as alt

    from rwkv_sweep.report.charts.chart import View
    from rwkv_sweep.report.charts.files import write_views
    from rwkv_sweep.report.charts.style import BLUE, ORANGE

    panels = (
        ("pairs", "pairs", "seconds", "s", "log"),
        ("length", "tokens of a sentence", "tokens_per_s", "tokens/s", "log"),
        ("depth", "blocks run", "tokens_per_s", "tokens/s", "linear"),
        ("kept", "layers pooled, all blocks run", "tokens_per_s", "tokens/s", "linear"),
    )
    charts = []
    for key, title, upright, unit, scale in panels:
        rows = [{"place": row[key], "speed": row[upright], "memory": row["peak_mib"]} for row in record[key]]
        base = alt.Chart(alt.Data(values=rows), width=340, height=200).encode(
            x=alt.X("place:Q", title=title, scale=alt.Scale(type=scale), axis=alt.Axis(tickCount=5, format=",.0f"))
        )
        lines = [
            base.mark_line(point=alt.OverlayMarkDef(color=color), color=color, strokeDash=dash).encode(
                y=alt.Y(f"{field}:Q", title=name, scale=alt.Scale(type=kind), axis=alt.Axis(titleColor=color))
            )
            for field, name, color, dash, kind in (
                ("speed", unit, BLUE, [1, 0], "log" if key == "pairs" else "linear"),
                ("memory", "peak MiB", ORANGE, [6, 3], "linear"),
            )
        ]
        charts.append(alt.layer(*lines).resolve_scale(y="independent"))
    figure = (charts[0] | charts[1]) & (charts[2] | charts[3])
    write_views([(stem.name, View(stem.name, figure.to_dict(), []))], None, stem.parent)


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    machine = device_tags(CPU)
    print(f"{date.today()}  {machine['device_name']}, {args.threads} threads, torch {torch.__version__}, fp32")
    blocks = 12
    record = {
        "machine": machine,
        "pairs": pairs_growth(args.pairs, args.threads),
        "length": forward_growth("length", ((n, sentences_of(n), [blocks]) for n in LENGTHS)),
        "depth": forward_growth("depth", ((n + 1, sentences_of(32), [n]) for n in DEPTHS)),
        "kept": forward_growth("kept", ((n, sentences_of(32), list(range(blocks - n, blocks))) for n in (1, 4, 8, 12))),
    }
    write_record(args.out, args, record)
    if args.figure:
        draw(record, args.figure)


if __name__ == "__main__":
    main()
