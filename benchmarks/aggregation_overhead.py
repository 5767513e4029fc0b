"""What aggregating layers costs over final-layer inference, on any device and shape, without Hydra or MLflow.

The preset `+experiment=aggregation_overhead` measures the same on the default model; this script is for machines that
have little more than PyTorch. Weights are random unless
--model tiny: time and memory do not depend on them.

Command: python -m benchmarks.aggregation_overhead --device cuda --precision bf16 --out overhead.json
"""

from __future__ import annotations

import argparse
import os
from datetime import date

os.environ.setdefault("KINETO_LOG_LEVEL", "6")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does

import torch

from benchmarks.common import (
    BASES,
    TINY,
    add_shape,
    benchmark_parser,
    embedded_pairs,
    load_encoder,
    random_model,
    write_record,
)
from rwkv_sweep.config.schema import AggregationConfig
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.layer_encoder import batches
from rwkv_sweep.hardware.devices import device_tags
from rwkv_sweep.models.pretrained.locate import MODEL
from rwkv_sweep.profiling.overhead import measure_overhead

AGGREGATIONS = {"mean": None, "concat": None, "max": None, "weighted": "linear"}
"""With the weights of those that take any."""
TITLES = {
    "one pair": "latency_ratio",
    "one pair, median": "latency_ratio_median",
    "full batch": "batch_ratio",
    "full batch, median": "batch_ratio_median",
    "layers kept, full batch": "naive_batch_ratio",
}
"""Columns of the table, and the metric each shows."""


def arguments() -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", choices=BASES, default="bf16")
    parser.add_argument("--model", choices=("random", "tiny"), default="random", help="tiny: the shipped one")
    add_shape(parser)
    parser.add_argument("--tokenizer", default=str(MODEL / "tokenizer.json"))
    parser.add_argument("--batch-tokens", type=int, default=16384)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--aggregations", nargs="*", default=list(AGGREGATIONS), choices=AGGREGATIONS)
    parser.add_argument("--no-naive", action="store_true", help="leave out the baseline that keeps every layer")
    parser.add_argument("--early-exit", type=int, nargs="*", default=[0, 5, 11, 17], help="single layers to time too")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    model = TINY if args.model == "tiny" else random_model(args, args.tokenizer)
    encoder = load_encoder(model, args.precision, torch.device(args.device), 512, args.batch_tokens)
    pairs = embedded_pairs()
    # Twice the pairs fill a large batch; a sentence's neighbours do not change its cost.
    tokenized = encoder.tokenize([sentence for pair in pairs for sentence in pair] * 2)
    batch = tokenized.select(batches([len(ids) for ids in tokenized.ids], args.batch_tokens)[0])
    blocks = encoder.loaded.model.config.num_hidden_layers
    final = Embedder(encoder, [blocks], "mean", AggregationConfig(name="none"))
    every = list(range(blocks))
    configurations = {f"layer {layer}": ([layer], AggregationConfig(name="none")) for layer in args.early_exit}
    configurations |= {
        f"{name} of all": (every, AggregationConfig(name, weights=AGGREGATIONS[name])) for name in args.aggregations
    }
    versions = {"torch": torch.__version__, **device_tags(encoder.device), **encoder.loaded.kernel_tags}
    print(f"{date.today()}  {versions}\n{len(batch.ids)} sentences and {batch.tokens:,} tokens a batch")
    print(f"{'configuration':16}" + "".join(f"{title:>28}" for title in TITLES) + f"{'MiB':>9}{'naive MiB':>11}")
    record: dict[str, object] = {"versions": versions}
    for name, (layers, aggregation) in configurations.items():
        this = Embedder(encoder, layers, "mean", aggregation)
        compared = {"final": final, "this": this}
        if not args.no_naive:
            compared["naive"] = Embedder(encoder, layers, "mean", aggregation, keep_layers=True)
        overhead, samples = measure_overhead(compared, pairs[: args.pairs], batch, args.rounds, seed=0)
        record[name] = {"metrics": overhead, "samples_ms": samples}
        memory = [overhead.get(f"overhead/{key}", float("nan")) for key in ("memory_mib", "naive_memory_mib")]
        cells = "".join(f"{shown(overhead, key):>28}" for key in TITLES.values())
        print(f"{name:16}{cells}{memory[0]:9.1f}{memory[1]:11.1f}", flush=True)
        mean = {kind: sum(values) / len(values) for kind, values in samples.items()}
        record[name + " mean ms"] = mean
    print({kind: f"{value:.2f} ms" for kind, value in mean.items()})
    write_record(args.out, args, record)


def shown(metrics: dict[str, float], name: str) -> str:
    if f"overhead/{name}" not in metrics:
        return "not run"
    value, low, high = (metrics[f"overhead/{name}{end}"] for end in ("", "_lo", "_hi"))
    return f"{value:.4f} [{low:.4f}, {high:.4f}]"


if __name__ == "__main__":
    main()
