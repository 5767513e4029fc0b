"""Precisions side by side on any device and shape: speed, size, parity with fp32, and a GPU's energy.

The preset `+experiment=quantization` measures one precision after another and scores real pairs; this script holds all
precisions in memory and runs them interleaved, so that what disturbs the machine disturbs all of them alike. With
`--model tiny` the weights are the trained ones that come with the package; otherwise they are random, and parity says
only that the arithmetic stays finite and close.

Command: python -m benchmarks.quantization --device cuda --out quantization.json
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

os.environ.setdefault("KINETO_LOG_LEVEL", "6")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does

import numpy as np
import torch
from torch import Tensor

from benchmarks.common import TINY, add_shape, benchmark_parser, write_record
from rwkv_sweep.config.schema import PrecisionConfig
from rwkv_sweep.embedding.pooling import POOLS, PooledTokens
from rwkv_sweep.hardware.devices import device_tags
from rwkv_sweep.models.loading import load_model
from rwkv_sweep.models.quantization import apply_precision, audit, needs_host
from rwkv_sweep.models.rwkv6.initialization import initialize
from rwkv_sweep.models.rwkv6.network import Rwkv6Config, Rwkv6Model
from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.profiling.energy import measure_energy
from rwkv_sweep.profiling.interleaved import interleaved
from rwkv_sweep.profiling.memory import MIB, peak_bytes
from rwkv_sweep.stats.intervals import ratio_interval

PRECISIONS = {
    "fp32": PrecisionConfig("fp32", "float32"),
    "tf32": PrecisionConfig("tf32", "tfloat32"),
    "bf16": PrecisionConfig("bf16", "bfloat16"),
    "fp16": PrecisionConfig("fp16", "float16"),
    "int8": PrecisionConfig("int8", "float16", "int8"),
    "int8_weight": PrecisionConfig("int8_weight", "bfloat16", "int8_weight"),
    "int4": PrecisionConfig("int4", "bfloat16", "int4"),
    "nf4": PrecisionConfig("nf4", "bfloat16", "nf4"),
    "fp4": PrecisionConfig("fp4", "bfloat16", "fp4"),
    "int8_dynamic": PrecisionConfig("int8_dynamic", "bfloat16", "int8_dynamic"),
    "fp8": PrecisionConfig("fp8", "bfloat16", "fp8"),
}
REFERENCE, YARDSTICK = "fp32", "bf16"


@dataclass
class MeasuredPrecision:
    """One precision: its model, what runs one batch and one pair, and what was measured."""

    name: str
    model: Rwkv6Model
    batch: Callable[[], Tensor]
    pair: Callable[[], Tensor]
    results: dict[str, object]


def arguments() -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", choices=("random", "tiny"), default="random")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    add_shape(parser)
    parser.add_argument("--sentence-tokens", type=int, default=26)
    parser.add_argument("--batch-tokens", type=int, default=16384)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--pairs", type=int, default=30, help="pairs timed one by one, in turn")
    parser.add_argument("--energy-seconds", type=float, default=1.0)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    device = torch.device(args.device)
    print(f"{date.today()}  torch {torch.__version__}  {device_tags(device)}")
    precisions, refused = load_precisions(args, device)
    for precision in precisions:
        measure_size(precision, device)
    measure_parity(precisions)
    measure_speed(precisions, args, device)
    for precision in precisions:
        if device.type == "cuda":
            tokens_per_pair = 2.0 * args.sentence_tokens
            work = [(precision.batch, batch_tokens(args))]
            precision.results["energy"] = measure_energy(work, tokens_per_pair, args.energy_seconds, device)
    show(precisions, refused)
    results = {precision.name: precision.results for precision in precisions}
    write_record(args.out, args, {"device": device_tags(device), "refused": refused, "precisions": results})


def load_precisions(args: argparse.Namespace, device: torch.device) -> tuple[list[MeasuredPrecision], dict[str, str]]:
    """The precisions that run here, and why the others do not."""
    weights = None if args.model == "tiny" else random_weights(args)
    precisions: list[MeasuredPrecision] = []
    refused: dict[str, str] = {}
    for name in args.precisions:
        try:
            precision = load_precision(name, args, weights, device)
            precision.batch()
            precision.pair()
        except Exception as error:  # whatever it is, the other precisions are still worth measuring
            refused[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            print(f"{name}: {refused[name]}", flush=True)
            continue
        precisions.append(precision)
    return precisions, refused


def random_weights(args: argparse.Namespace) -> Rwkv6Model:
    shape = Rwkv6Config(
        vocab_size=args.vocabulary,
        hidden_size=args.hidden,
        num_hidden_layers=args.blocks,
        intermediate_size=args.intermediate,
    )
    model = Rwkv6Model(shape)
    initialize(model, seed=0, zero_outputs=False)
    return model


def load_precision(
    name: str, args: argparse.Namespace, weights: Rwkv6Model | None, device: torch.device
) -> MeasuredPrecision:
    config = PRECISIONS[name]
    if weights is None:
        loaded = load_model(TINY, config, device)
        model, tags = loaded.model, loaded.kernel_tags
    else:
        with torch.device("meta"):
            model = Rwkv6Model(weights.config)
        model.load_state_dict(weights.state_dict(), assign=True)
        tags = apply_precision(model.eval(), config, device) | model.path_tags(device)
        model.prepare(device)
    audited = audit(model, config, device).record()
    results: dict[str, object] = {"tags": tags, "audit": {key: audited[key] for key in ("kernel", "metrics")}}
    batch = runner(model, batch_tokens(args) // args.sentence_tokens, args, device)
    pair = runner(model, 2, args, device)
    if device.type == "cuda" and model.capture_obstacle(device) is None and needs_host(model) is None:
        pair = captured(pair, device)
    return MeasuredPrecision(name, model, batch, pair, results)


def batch_tokens(args: argparse.Namespace) -> int:
    return int(args.batch_tokens // args.sentence_tokens * args.sentence_tokens)


def runner(model: Rwkv6Model, sentences: int, args: argparse.Namespace, device: torch.device) -> Callable[[], Tensor]:
    """What runs a packed batch of random ids to mean-pooled final vectors [S, D]."""
    lengths = [args.sentence_tokens] * sentences
    random = torch.Generator().manual_seed(0)
    ids_T = torch.randint(1, model.config.vocab_size, (sum(lengths),), generator=random).to(device)
    packed, final = Packed.of(lengths, device), model.config.num_hidden_layers

    @torch.inference_mode()
    def run() -> Tensor:
        kept: list[Tensor] = []
        model(ids_T, packed, [final], lambda _, h_TD: kept.append(POOLS["mean"](h_TD, PooledTokens(packed, None))))
        return kept[0]

    return run


def captured(run: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """`run` as a CUDA graph, as single pairs run in a sweep."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.stream(stream):
        for _ in range(2):
            run()
        stream.synchronize()
        with torch.cuda.graph(graph, stream=stream):
            vectors_SD = run()
    stream.synchronize()

    def replay(inputs: object = run) -> Tensor:
        """The graph reads what `run` holds, which must live as long."""
        graph.replay()
        return vectors_SD

    return replay


def measure_size(precision: MeasuredPrecision, device: torch.device) -> None:
    precision.results["peak_above_weights_mib"] = peak_bytes(precision.batch, device) / MIB


def measure_parity(precisions: Sequence[MeasuredPrecision]) -> None:
    """Cosines of a batch's vectors with those of fp32, where fp32 is among the precisions."""
    reference = next((precision.batch().float() for precision in precisions if precision.name == REFERENCE), None)
    for precision in precisions:
        vectors_SD = precision.batch().float()
        precision.results["finite"] = bool(torch.isfinite(vectors_SD).all())
        if reference is not None:
            cosines_S = torch.cosine_similarity(vectors_SD, reference, dim=-1)
            precision.results["cosine_mean"] = float(cosines_S.mean())
            precision.results["cosine_p01"] = float(torch.quantile(cosines_S[:4096], 0.01))


def measure_speed(precisions: Sequence[MeasuredPrecision], args: argparse.Namespace, device: torch.device) -> None:
    """Batches and pairs of all precisions, interleaved in random order."""
    for kind, rounds in (("batch", args.rounds), ("pair", args.pairs)):
        interleaved_rounds = [{precision.name: getattr(precision, kind) for precision in precisions}] * rounds
        samples_ms = interleaved(interleaved_rounds, device, np.random.default_rng(0))
        for precision in precisions:
            precision.results[f"{kind}_ms"] = samples_ms[precision.name]
            if YARDSTICK in samples_ms:
                own, theirs = np.array(samples_ms[precision.name]), np.array(samples_ms[YARDSTICK])
                ratio = ratio_interval(theirs, own, 10_000, seed=0)
                precision.results[f"{kind}_speedup"] = [ratio.value, ratio.lo, ratio.hi]
                precision.results[f"{kind}_speedup_of_medians"] = float(np.median(theirs) / np.median(own))
    for precision in precisions:
        median_ms = float(np.median(precision.results["batch_ms"]))  # type: ignore[arg-type]
        precision.results["tokens_per_s"] = 1e3 * batch_tokens(args) / median_ms


def pair_time_of_bf16(results: dict[str, object]) -> tuple[float, float, float]:
    """A pair's time as a part of bf16's, with its interval."""
    value, lo, hi = results.get("pair_speedup", [float("nan")] * 3)  # type: ignore[misc]
    return 1 / value, 1 / hi, 1 / lo


def show(precisions: Sequence[MeasuredPrecision], refused: dict[str, str]) -> None:
    speeds = f"{'tokens/s':>10}{'x bf16':>8}{'x bf16, means':>23}{'ms/pair':>9}{'time / bf16, means':>23}"
    sizes = f"{'weights MiB':>12}{'without emb.':>13}{'bits':>6}"
    print(f"\n{'precision':13}{speeds}{sizes}{'peak MiB':>9}{'cosine':>9}{'1st %':>9}{'finite':>7}{'J/1k pairs':>11}")
    for precision in precisions:
        results, sizes = precision.results, precision.results["audit"]["metrics"]  # type: ignore[index]
        without = sizes["memory/weights_without_embedding_mib"]
        speedup: Sequence[float] = results.get("batch_speedup", [float("nan")] * 3)  # type: ignore[assignment]
        slower = pair_time_of_bf16(results)
        energy = results.get("energy", ({}, {}))[0].get("energy/joules_per_1k_pairs", float("nan"))  # type: ignore[index]
        print(
            f"{precision.name:13}{results['tokens_per_s']:10,.0f}"
            f"{results.get('batch_speedup_of_medians', float('nan')):8.3f}"
            f"{speedup[0]:9.3f} [{speedup[1]:.3f}, {speedup[2]:.3f}]{np.median(results['pair_ms']):8.3f}"
            f"{slower[0]:9.3f} [{slower[1]:.3f}, {slower[2]:.3f}]"
            f"{without + sizes['memory/embedding_mib']:12,.1f}{without:13,.1f}"
            f"{sizes['audit/bits_per_parameter_without_embedding']:6.2f}{results['peak_above_weights_mib']:9,.0f}"
            f"{results.get('cosine_mean', float('nan')):9.5f}{results.get('cosine_p01', float('nan')):9.5f}"
            f"{results['finite']!s:>7}{energy:11.3f}"
        )
    for name, reason in refused.items():
        print(f"{name:13}{reason[:180]}")


if __name__ == "__main__":
    main()
