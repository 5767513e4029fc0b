"""One forward and one pair on an NVIDIA GPU: lower bounds, this project, and other programs, side by side in one run.

Weights are random: speed does not depend on them. Sentences of the forward are as long as MRPC's with the World
tokenizer (26.5 tokens on average), in packed batches; pairs are the embedded ones, from text to score.

GEMM only: the large matrix products of all blocks alone, in the same batches, in their fastest form (the four
    projections of a time mix as one batched product, or one by one).
fused: tokenized sentences to mean-pooled vectors of the last block, as a sweep does it.
eager PyTorch: the same by the plain blocks, which are the reference that the fused ones are tested against.
naive loop: the study's way, one sentence at a time through the plain blocks, full depth.
rwkv, fla: the model author's package in its sequence mode, and fla-core's operator in place of ours; where importable.
pair, memory bandwidth: the time to read the weights of the blocks once, at the speed of a large copy.

Command: make bench-gpu
         python -m benchmarks.forward_gpu --precisions bf16 fp16 --out forward_gpu.json
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Sequence
from datetime import date
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.common import (
    BASES,
    add_shape,
    benchmark_parser,
    embedded_pairs,
    load_encoder,
    original_name,
    plain_blocks,
    random_model,
    samples_s,
    write_record,
)
from rwkv_sweep.config.schema import AggregationConfig
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.layer_encoder import RwkvEncoder, batches
from rwkv_sweep.embedding.prompts import Tokenized
from rwkv_sweep.hardware.devices import device_tags
from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.profiling.latency import measure_latency

DEVICE = torch.device("cuda")
ROUNDS = 5

Rows = list[tuple[str, float, str]]
"""What, a figure, and its unit."""


def arguments() -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--precisions", nargs="+", choices=BASES, default=["bf16", "fp16"])
    add_shape(parser)
    parser.add_argument("--tokenizer", default="world", help="of the pairs: world, bytes, or a tokenizer.json")
    parser.add_argument("--sentences", type=int, default=2816)
    parser.add_argument("--batch-tokens", type=int, default=16384)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--peer-sentences", type=int, default=10, help="of the naive loop and the rwkv package")
    parser.add_argument(
        "--peers", choices=("first", "none"), default="first", help="with the first precision, or never"
    )
    return parser.parse_args()


def sentences_like_mrpc(count: int, vocabulary: int) -> Tokenized:
    """Random ids in MRPC's lengths: 26.5 tokens on average, standard deviation 7, 6 to 62."""
    random = np.random.default_rng(0)
    lengths = np.clip(np.rint(random.normal(26.5, 7, count)), 6, 62).astype(int)
    ids = [random.integers(0, vocabulary, length).tolist() for length in lengths]
    return Tokenized(ids, [(0, len(tokens)) for tokens in ids], 0)


def gemm_rates(encoder: RwkvEncoder, tokenized: Tokenized) -> dict[str, float]:
    """Tokens per second of the blocks' large matrix products alone, in both forms."""
    model, size = encoder.loaded.model, encoder.batch_tokens
    rows = [sum(len(tokenized.ids[row]) for row in part) for part in batches(list(map(len, tokenized.ids)), size)]
    hidden, wide = model.config.hidden_size, model.config.intermediate_size
    dtype = model.blocks[0].attention.output.weight.dtype
    x_4TD, f_TF = (torch.randn(*shape, device=DEVICE).to(dtype) for shape in ((4, size, hidden), (size, wide)))

    def products(stacked: bool) -> None:
        for tokens in rows:
            x_TD = x_4TD[0, :tokens]
            for block in model.blocks:
                mix, feed = block.attention, block.feed_forward
                if stacked:
                    torch.bmm(x_4TD[:, :tokens], mix.stack_4ED.transpose(1, 2))
                else:
                    for linear in (mix.key, mix.value, mix.receptance, mix.gate):
                        linear(x_TD)
                for linear in (mix.output, feed.receptance, feed.key):
                    linear(x_TD)
                feed.value(f_TF[:tokens])

    forms = {"one by one": False, "projections stacked": True}
    return {name: sum(rows) / seconds(lambda stacked=stacked: products(stacked)) for name, stacked in forms.items()}


def forward_rows(encoder: RwkvEncoder, tokenized: Tokenized) -> Rows:
    bounds = gemm_rates(encoder, tokenized)
    last, every = [encoder.loaded.model.config.num_hidden_layers - 1], list(range(len(encoder.loaded.model.blocks)))

    def rate(layers: list[int], rounds: int = ROUNDS) -> float:
        return tokenized.tokens / seconds(lambda: encoder.encode_tokens(tokenized, layers, ["mean"]), rounds)

    measured = {"fused": rate(last), "fused, all layers pooled": rate(every)}
    with plain_blocks():
        measured["eager PyTorch"] = rate(last, 2)
    rows: Rows = [(f"GEMM only, {name}", value, "tokens/s") for name, value in bounds.items()]
    for name, value in measured.items():
        rows += [(name, value, "tokens/s"), (f"{name}, share of the faster bound", value / max(bounds.values()), "")]
    return rows


def pair_rows(encoder: RwkvEncoder, pairs: Sequence[tuple[str, str]]) -> Rows:
    model = encoder.loaded.model
    weights = sum(parameter.nbytes for parameter in model.blocks.parameters())
    buffer = torch.empty(2**28, device=DEVICE)
    copy = 2 * buffer.nbytes / seconds(lambda: torch.empty_like(buffer).copy_(buffer))
    rows: Rows = [("pair, memory bandwidth", weights / copy * 1e3, "ms")]
    final = Embedder(encoder, [len(model.blocks)], "mean", AggregationConfig(name="none"))
    every = Embedder(encoder, list(range(len(model.blocks))), "mean", AggregationConfig(name="mean"))
    for name, embedder in (("captured, final layer", final), ("captured, mean of all layers", every)):
        embedder.prepare_pairs(pairs)
        rows += _latency_rows(f"pair {name} ({embedder.pair_path})", embedder.score_pair, pairs)

    def eagerly(first: str, second: str) -> float:
        one, other = final.embed_tokens(encoder.tokenize((first, second)))
        return float(torch.nn.functional.cosine_similarity(one, other, dim=0))

    rows += _latency_rows("pair fused, eager", eagerly, pairs[:30])
    with plain_blocks():
        rows += _latency_rows("pair plain PyTorch, eager", eagerly, pairs[:20])
    return rows


def _latency_rows(name: str, score: Callable[[str, str], float], pairs: Sequence[tuple[str, str]]) -> Rows:
    metrics = measure_latency(score, pairs, pairs[:10], DEVICE).metrics()
    return [(f"{name}, {end}", metrics[f"latency/{end}_ms"], "ms") for end in ("p50", "p99")]


def naive_rows(encoder: RwkvEncoder, tokenized: Tokenized) -> Rows:
    last = [encoder.loaded.model.config.num_hidden_layers]
    ones = [tokenized.select([row]) for row in range(len(tokenized.ids))]
    with plain_blocks():
        taken = seconds(lambda: [encoder.encode_tokens(one, last, ["mean"]) for one in ones], 1)
    return [("naive loop", tokenized.tokens / taken, "tokens/s")]


def rwkv_rows(encoder: RwkvEncoder, tokenized: Tokenized) -> Rows:
    os.environ.update(RWKV_V7_ON="0", RWKV_JIT_ON="1", RWKV_CUDA_ON="0")
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        from rwkv.model import RWKV

        named = {f"rwkv.{name}": tensor.cpu() for name, tensor in encoder.loaded.model.state_dict().items()}
        named["head.weight"] = named["rwkv.embeddings.weight"]
        torch.save({original_name(name): tensor.bfloat16() for name, tensor in named.items()}, f"{folder}/model.pth")
        peer: Any = RWKV(model=f"{folder}/model", strategy="cuda bf16")
        taken = seconds(lambda: [peer.forward(ids, None, full_output=True) for ids in tokenized.ids], 1)
    return [("rwkv package, bf16", tokenized.tokens / taken, "tokens/s")]


def fla_rows(encoder: RwkvEncoder, tokenized: Tokenized) -> Rows:
    """The operator alone over the first batch, a layer: ours does the decays, group norm and gate too."""
    from fla.ops.rwkv6 import chunk_rwkv6, fused_recurrent_rwkv6

    from rwkv_sweep.ops.triton.time_mix import time_mix

    lengths = [len(tokenized.ids[row]) for row in batches(list(map(len, tokenized.ids)), encoder.batch_tokens)[0]]
    packed, mix = Packed.of(lengths, DEVICE), encoder.loaded.model.blocks[0].attention
    heads, dtype = mix.time_faaaa.shape, mix.time_decay_w2.dtype
    r, k, v, gate = (torch.randn(packed.tokens, heads.numel(), device=DEVICE).to(dtype) for _ in range(4))
    low = torch.randn(packed.tokens, mix.time_decay_w2.shape[0], device=DEVICE).to(dtype)
    one = [x.unflatten(1, tuple(heads))[None] for x in (r, k, v, -torch.rand_like(r))]
    u = mix.time_faaaa.to(dtype)
    args = (r, k, v, gate, low, mix.time_decay_w2, mix.time_decay, mix.time_faaaa, mix.ln_x, packed)
    works: dict[str, Callable[[], object]] = {
        "ours with decays, norm and gate": lambda: time_mix(*args),
        "fla chunked": lambda: chunk_rwkv6(*one, u, cu_seqlens=packed.cu_seqlens_B1),
        "fla recurrent": lambda: fused_recurrent_rwkv6(*one, u, cu_seqlens=packed.cu_seqlens_B1),
    }
    rows: Rows = []
    for name, work in works.items():
        rows += attempt(f"operator a layer, {name}", lambda work=work: [("", seconds(work, 20) * 1e3, "ms")])
    return rows


def attempt(name: str, measure: Callable[[], Rows]) -> Rows:
    """The rows, or one that says why there are none, so that one failure does not end the rest."""
    try:
        with torch.inference_mode():
            return [(", ".join(filter(None, (name, row))), value, unit) for row, value, unit in measure()]
    except Exception as error:
        lines = str(error).splitlines() or [""]
        return [(name, float("nan"), f"not measured: {type(error).__name__}: {lines[0][:100]}")]


def seconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Median of some rounds after one to warm up."""
    return median(samples_s(work, rounds, DEVICE))


def main() -> None:
    args = arguments()
    tokenized = sentences_like_mrpc(args.sentences, args.vocabulary)
    pairs = embedded_pairs()[: args.pairs]
    model = random_model(args, args.tokenizer)
    rows: Rows = []
    for index, precision in enumerate(args.precisions):
        encoder = load_encoder(model, precision, DEVICE, 4096, args.batch_tokens)
        rows += attempt(precision, lambda encoder=encoder: forward_rows(encoder, tokenized))
        rows += attempt(precision, lambda encoder=encoder: pair_rows(encoder, pairs))
        if index == 0 and args.peers == "first":
            few = tokenized.select(range(args.peer_sentences))
            rows += attempt(precision, lambda encoder=encoder, few=few: naive_rows(encoder, few))
            rows += attempt("peer", lambda encoder=encoder: fla_rows(encoder, tokenized))
            rows += attempt("peer", lambda encoder=encoder, few=few: rwkv_rows(encoder, few))
        tags = encoder.loaded.kernel_tags
        del encoder
    versions = {"torch": torch.__version__, **device_tags(DEVICE), **tags}
    lengths = [len(ids) for ids in tokenized.ids]
    print(f"{date.today()}  {versions}")
    print(f"{len(lengths)} sentences, {sum(lengths):,} tokens; {len(pairs)} pairs")
    for name, value, unit in rows:
        shown = f"{value:,.0f}" if value >= 1000 else f"{value:.3f}"
        print(f"{name:70}{shown:>12} {unit}")
    write_record(args.out, args, {"versions": versions, "rows": rows})


if __name__ == "__main__":
    main()
