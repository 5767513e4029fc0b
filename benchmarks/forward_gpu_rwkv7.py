"""One forward and one pair of an RWKV-7, 5 or 4 on an NVIDIA GPU, beside its GEMM-only lower bound and, for RWKV-7,
flash-linear-attention.

Weights are random, by default in the shape of RWKV-7 1.5B (of RWKV-5: an Eagle with as many blocks of that width). All
of a round is measured one after another, and ratios are those of rounds, with a 95 % bootstrap interval. One packed
batch of equally long sentences, mean-pooled last block.

GEMMs: the large matrix products of all blocks alone, the projections of a time mix stacked or one by one.
ours: token ids on the device to pooled vectors.
plain: the same by the plain PyTorch blocks, which are the reference of the kernels.
fla: `RWKV7Model` of flash-linear-attention on the same ids with `cu_seqlens`, where it can be imported. Its first call
    autotunes, for one to two minutes.

Command: python -m benchmarks.forward_gpu_rwkv7 --precisions bf16 fp16 --out forward_gpu_rwkv7.json
         python -m benchmarks.forward_gpu_rwkv7 --generation 5
"""

# Shapes: T packed tokens, D hidden size, E = D outputs of a projection, F width of the channel mix, M projections.

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

import numpy as np
import torch

from benchmarks.common import (
    BASES,
    add_shape,
    benchmark_parser,
    embedded_pairs,
    load_encoder,
    plain_blocks,
    random_model,
    samples_s,
    write_record,
)
from rwkv_sweep.config.schema import AggregationConfig
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.layer_encoder import RwkvEncoder
from rwkv_sweep.hardware.devices import device_tags
from rwkv_sweep.models.rwkv7.configuration import usual_ranks
from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.profiling.latency import measure_latency
from rwkv_sweep.stats.intervals import median_ratio_interval

RESAMPLES = 2000
RATIO = {7: 4, 5: 3.5, 4: 4}
"""Of the width of the channel mix to the hidden size, by generation."""

Works = dict[str, Callable[[], object]]


def arguments() -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    add_shape(parser)
    parser.set_defaults(intermediate=None)
    parser.add_argument("--generation", type=int, choices=list(RATIO), default=7)
    parser.add_argument("--precisions", nargs="+", choices=BASES, default=["bf16", "fp16"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sentences", type=int, default=630)
    parser.add_argument("--length", type=int, default=26)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument(
        "--peers", choices=("all", "none"), default="all", help="none leaves out flash-linear-attention"
    )
    parser.add_argument("--tokenizer", default="world", help="of the pairs: world, bytes, or a tokenizer.json")
    return parser.parse_args()


def projections_of(model: Any, block: Any) -> tuple[list[Any], torch.Tensor | None]:
    """The projections of a time mix, and their weights in one piece, [M, D, D], where they were stacked."""
    mix = block.attention
    linears = [mix.receptance, mix.key, mix.value, *([mix.gate] if model.generation == 5 else [])]
    if model.generation == 7:
        return linears, None if mix.gpu_weights is None else mix.gpu_weights.stack_3ED
    return linears, mix.stack_4ED if model.generation == 5 else mix.stack_3ED


def gemms(model: Any, tokens: int, device: torch.device) -> Works:
    """The blocks' large matrix products on random inputs, in both forms."""
    dtype = model.blocks[0].attention.output.weight.dtype
    hidden, wide = model.config.hidden_size, model.config.intermediate_size
    x_MTD, f_TF = (torch.randn(*shape, device=device).to(dtype) for shape in ((4, tokens, hidden), (tokens, wide)))

    def multiply(stacked: bool) -> None:
        for block in model.blocks:
            linears, stack_MED = projections_of(model, block)
            if stacked and stack_MED is not None:
                torch.bmm(x_MTD[: len(linears)], stack_MED.transpose(1, 2))
            else:
                for linear in linears:
                    linear(x_MTD[0])
            feed = block.feed_forward
            for linear in (block.attention.output, feed.key, *([] if model.generation == 7 else [feed.receptance])):
                linear(x_MTD[0])
            feed.value(f_TF)

    works: Works = {"GEMMs, one by one": lambda: multiply(False)}
    if projections_of(model, model.blocks[0])[1] is not None:
        works["GEMMs, projections as one"] = lambda: multiply(True)
    return works


def forwards(model: Any, args: argparse.Namespace, ids_T: torch.Tensor, packed: Packed) -> Works:
    """Ours, and fla's where there is one."""
    last = [args.blocks - 1]

    def ours() -> None:
        model(ids_T, packed, last, lambda *_: None, None, lambda *_: None)

    works: Works = {"ours": ours}
    if model.generation != 7 or args.peers == "none":
        return works
    with contextlib.suppress(ImportError):
        from fla.models.rwkv7 import RWKV7Config, RWKV7Model

        ranks = usual_ranks(args.hidden)
        config = RWKV7Config(
            hidden_size=args.hidden,
            num_hidden_layers=args.blocks,
            vocab_size=args.vocabulary,
            intermediate_size=args.intermediate,
            head_dim=64,
            decay_low_rank_dim=ranks["decay_rank"],
            a_low_rank_dim=ranks["rate_rank"],
            v_low_rank_dim=ranks["value_rank"],
            gate_low_rank_dim=ranks["gate_rank"],
            use_cache=False,
            fuse_cross_entropy=False,
        )
        with torch.device(ids_T.device):
            peer = RWKV7Model(config).to(model.blocks[0].attention.w1.dtype).eval()
        offsets = packed.cu_seqlens_B1
        works["fla"] = lambda: peer(ids_T.view(1, -1), cu_seqlens=offsets, use_cache=False)
    return works


def rounds_s(works: Works, rounds: int, device: torch.device) -> dict[str, np.ndarray]:
    """Seconds of each work in each round; the works of a round follow one another."""
    for work in works.values():
        samples_s(work, 2, device)
    samples: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            samples[name] += samples_s(work, 1, device)
    return {name: np.array(values) for name, values in samples.items()}


def forward_figures(encoder: RwkvEncoder, args: argparse.Namespace) -> dict[str, Any]:
    """Tokens/s of each work, and ratios with their intervals."""
    model: Any = encoder.loaded.model
    device = encoder.device
    packed = Packed.of([args.length] * args.sentences, device)
    ids_T = torch.randint(0, args.vocabulary, (packed.tokens,), device=device)
    bounds = gemms(model, packed.tokens, device)
    taken = rounds_s({**bounds, **forwards(model, args, ids_T, packed)}, args.rounds, device)
    bound = min(bounds, key=lambda name: float(np.median(taken[name])))
    compared = {f"ours, share of {bound}": (taken[bound], taken["ours"])}
    if "fla" in taken:
        compared["ours, times fla's rate"] = (taken["fla"], taken["ours"])
    ratios = {name: median_ratio_interval(above, below, RESAMPLES, 0) for name, (above, below) in compared.items()}
    with plain_blocks():
        taken["plain"] = np.array(samples_s(forwards(model, args, ids_T, packed)["ours"], 2, device))
    return {
        "tokens_per_s": {name: packed.tokens / float(np.median(seconds)) for name, seconds in taken.items()},
        "ratios": {name: [ratio.value, ratio.lo, ratio.hi] for name, ratio in ratios.items()},
        "seconds": {name: [float(f"{second:.6g}") for second in seconds] for name, seconds in taken.items()},
    }


def pair_figures(encoder: RwkvEncoder, args: argparse.Namespace) -> dict[str, Any]:
    """One pair from text to score: milliseconds by percentile, and how it ran."""
    embedder = Embedder(encoder, [args.blocks], "mean", AggregationConfig(name="none"))
    pairs = embedded_pairs()[: args.pairs]
    embedder.prepare_pairs(pairs)
    metrics = measure_latency(embedder.score_pair, pairs, pairs[:10], encoder.device).metrics()
    return {"path": embedder.pair_path} | {end: metrics[f"latency/{end}_ms"] for end in ("p50", "p95", "p99")}


def lines_of(precision: str, figures: dict[str, Any]) -> list[str]:
    """What is printed of one precision."""
    lines = [f"{name}: {rate:,.0f} tokens/s" for name, rate in figures["tokens_per_s"].items()]
    lines += [f"{name}: {value:.3f} [{lo:.3f}, {hi:.3f}]" for name, (value, lo, hi) in figures["ratios"].items()]
    pair = figures["pair"]
    lines.append(f"pair ({pair['path']}): " + ", ".join(f"{end} {pair[end]:.3f} ms" for end in ("p50", "p95", "p99")))
    return [f"{precision} {line}" for line in lines]


def main() -> None:
    args = arguments()
    device, precisions = torch.device(args.device), {}
    args.intermediate = args.intermediate or int(RATIO[args.generation] * args.hidden)
    model = replace(random_model(args, args.tokenizer), generation=args.generation)
    for precision in args.precisions:
        encoder = load_encoder(model, precision, device, 4096, 16384)
        with torch.inference_mode():
            figures = forward_figures(encoder, args) | {"pair": pair_figures(encoder, args)}
        precisions[precision] = figures
        print(*lines_of(precision, figures), sep="\n", flush=True)
        versions = {"torch": torch.__version__, **device_tags(device), **encoder.loaded.kernel_tags}
        # After each precision: what was measured is kept when the time of a machine ends.
        write_record(args.out, args, {"versions": versions, "precisions": precisions})
        del encoder
    print(f"{date.today()}  RWKV-{args.generation}  {versions}")


if __name__ == "__main__":
    main()
