"""One forward on the CPU: the GEMM-only lower bound, this project, and other programs, side by side.

Lower bounds: the matrix products of all blocks alone, on random data of the same shapes, in batches of the same size,
by `torch.mm` (whatever library PyTorch uses) and by oneDNN. Shares are of the faster one.
Ours: tokenized sentences to mean-pooled vectors of the last block, packed batches, as a sweep does it.
rwkv: the model author's inference code (PyPI `rwkv`), one sentence at a time in its sequence mode, fp32, TorchScript,
in fresh processes with one thread and with as many as ours: more threads slow it down on sentences this short.
token loop: the study's way, one sentence at a time through this network with the operator's token-by-token reference.
transformers: its `RwkvModel`, which is RWKV-4 (a simpler block), of the same width and depth, random weights,
one sentence at a time.

Command: make bench
         python -m benchmarks.forward_cpu --random 512 12
         python -m benchmarks.forward_cpu --random 512 12 --generation 7
         python -m benchmarks.forward_cpu --model FILE.pth --tokenizer bytes --pairs mrpc/validation.tsv
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the command line does

import torch

from benchmarks.common import benchmark_parser, load_encoder, original_name, plain_blocks, samples_s, write_record
from rwkv_sweep.config.schema import DatasetConfig, ModelConfig
from rwkv_sweep.data.splits import load_splits
from rwkv_sweep.embedding.layer_encoder import RwkvEncoder
from rwkv_sweep.embedding.prompts import Tokenized
from rwkv_sweep.hardware.devices import device_tags
from rwkv_sweep.models.pretrained.locate import MODEL
from rwkv_sweep.models.pretrained.tokenizers import TOKENIZER_FILE
from rwkv_sweep.models.rwkv6 import blocks as rwkv_blocks
from rwkv_sweep.models.rwkv6.checkpoint import read_weights
from rwkv_sweep.ops.common import onednn
from rwkv_sweep.ops.wkv6 import wkv6_reference

CPU = torch.device("cpu")
BATCH_TOKENS = 4096
REPEATS = 3
PRODUCTS = {"GEMM only, torch.mm": torch.nn.functional.linear, "GEMM only, oneDNN": onednn.matmul_fp32}


def arguments() -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--model", type=Path, default=MODEL, help="checkpoint; default: the embedded model")
    parser.add_argument("--tokenizer", help="as model.tokenizer; default: the one beside the weights")
    parser.add_argument(
        "--random", type=int, nargs=2, metavar=("HIDDEN", "BLOCKS"), help="random weights of this shape"
    )
    parser.add_argument("--generation", type=int, choices=(4, 5, 6, 7), default=6, help="of random weights")
    parser.add_argument("--pairs", help="file of pairs; default: dataset=embedded_hard")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peer-sentences", type=int, default=40, help="sentences timed with the rwkv package")
    return parser.parse_args()


def model_of(args: argparse.Namespace) -> ModelConfig:
    if not args.random:
        return ModelConfig(name="model", source="local", path=str(args.model), tokenizer=args.tokenizer)
    hidden, blocks = args.random
    config = ModelConfig("random", "random", hidden_size=hidden, num_blocks=blocks, head_size=64, vocab_size=1024)
    config.intermediate_size = int((3.5 if args.generation in (5, 6) else 4) * hidden)
    config.generation, config.tokenizer = args.generation, str(MODEL / TOKENIZER_FILE)
    return config


def load_sentences(path: str | None) -> Sequence[str]:
    source, packaged = ("file", None) if path else ("assets", "embedded_hard")
    (split,) = load_splits(DatasetConfig(name="pairs", source=source, path=path, id=packaged, splits=["all"]))
    return split.sentences


def matmul_shapes(block: Any) -> list[tuple[int, int]]:
    """Inputs and outputs of all matrix products of a block: linear layers, and low-rank factors of the time mix."""
    linears = [module for module in block.modules() if hasattr(module, "in_features")]
    shapes = [(linear.in_features, linear.out_features) for linear in linears]
    for name, parameter in block.attention.named_parameters(recurse=False):
        if name != "time_faaaa" and sum(size > 1 for size in parameter.shape) > 1:
            shapes += [tuple(parameter.shape[-2:])] * (len(parameter) if parameter.dim() == 3 else 1)
    return shapes


def products_seconds(
    encoder: RwkvEncoder, tokens: int, product: Callable[[torch.Tensor, torch.Tensor], object]
) -> float:
    """Time of the blocks' matrix products alone for this many tokens; `product` takes [T, K] and [N, K]."""
    shapes = matmul_shapes(encoder.loaded.model.blocks[-1])
    inputs = [torch.randn(BATCH_TOKENS, rows) for rows, _ in shapes]
    weights = [onednn.laid_out(torch.randn(columns, rows)) for rows, columns in shapes]

    def products() -> None:
        for x, weight in zip(inputs, weights, strict=True):
            product(x, weight)

    return best_of(products) * len(encoder.loaded.model.blocks) * tokens / BATCH_TOKENS


def ours_seconds(encoder: RwkvEncoder, tokenized: Tokenized) -> float:
    deepest = encoder.loaded.model.config.num_hidden_layers - 1
    return best_of(lambda: encoder.encode_tokens(tokenized, [deepest], ["mean"]))


def peer_rate(model: Path, ids: list[list[int]], threads: int) -> float:
    """Tokens per second of the `rwkv` package on these sentences, one by one, in a fresh process."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        torch.save(original_names(read_weights(model)[1]), path.with_suffix(".pth"))
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            return process.submit(_peer_rate, str(path), ids, threads).result()


def _peer_rate(model: str, ids: list[list[int]], threads: int) -> float:
    os.environ.update(RWKV_V7_ON="0", RWKV_JIT_ON="1", RWKV_CUDA_ON="0")
    torch.set_num_threads(threads)
    with contextlib.redirect_stdout(io.StringIO()):
        from rwkv.model import RWKV

        peer = RWKV(model=model, strategy="cpu fp32")
    for sentence in ids[:3]:
        peer.forward(sentence, None, full_output=True)
    start = time.perf_counter()
    for sentence in ids:
        peer.forward(sentence, None, full_output=True)
    return sum(map(len, ids)) / (time.perf_counter() - start)


def original_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same weights in fp32 under the names of the author's checkpoints."""
    return {original_name(name): tensor.float() for name, tensor in tensors.items()}


def token_loop_rate(encoder: RwkvEncoder, tokenized: Tokenized) -> float:
    """Tokens per second of the plain blocks, one sentence at a time, the operator token by token."""

    def reference(*inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return wkv6_reference(*inputs[:6])

    deepest = encoder.loaded.model.config.num_hidden_layers - 1
    with plain_blocks(), patch.object(rwkv_blocks, "wkv6_chunked", reference):
        return one_by_one(lambda row: encoder.encode_tokens(tokenized.select([row]), [deepest], ["mean"]), tokenized)


def transformers_rate(encoder: RwkvEncoder, tokenized: Tokenized) -> float:
    """Tokens per second of RWKV-4 in transformers, one sentence at a time."""
    from transformers import RwkvConfig, RwkvModel
    from transformers.utils import logging

    logging.set_verbosity_error()
    ours = encoder.loaded.model.config
    shape = RwkvConfig(
        vocab_size=ours.vocab_size,
        hidden_size=ours.hidden_size,
        num_hidden_layers=ours.num_hidden_layers,
        intermediate_size=ours.intermediate_size,
        rescale_every=0,
        use_cache=False,
    )
    model = RwkvModel(shape).eval()
    with torch.inference_mode():
        return one_by_one(lambda row: model(torch.tensor([tokenized.ids[row]])), tokenized)


def one_by_one(work: Callable[[int], object], tokenized: Tokenized) -> float:
    """Tokens per second over all sentences, after three to warm up."""
    for row in range(3):
        work(row)
    start = time.perf_counter()
    for row in range(len(tokenized.ids)):
        work(row)
    return tokenized.tokens / (time.perf_counter() - start)


def best_of(work: Callable[[], object]) -> float:
    """Shortest of `REPEATS` runs after one to warm up, in seconds."""
    return min(samples_s(work, REPEATS, CPU))


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    encoder = load_encoder(model_of(args), "fp32", CPU, 512, BATCH_TOKENS)
    tokenized = encoder.tokenize(load_sentences(args.pairs))
    ids = tokenized.ids
    tokens = sum(map(len, ids))
    few = tokenized.select(range(0, len(ids), max(1, len(ids) // args.peer_sentences))[: args.peer_sentences])
    rates = {name: tokens / products_seconds(encoder, tokens, product) for name, product in PRODUCTS.items()}
    bound = max(rates.values())
    rates["rwkv_sweep"] = tokens / ours_seconds(encoder, tokenized)
    if encoder.loaded.model.generation == 6:
        rates["token loop"] = token_loop_rate(encoder, few)
    rates["transformers"] = transformers_rate(encoder, few)
    if not args.random:
        for threads in sorted({1, args.threads}):
            rates[f"rwkv, {threads} thread{'s' * (threads > 1)}"] = peer_rate(args.model, few.ids, threads)
    machine = device_tags(CPU)
    print(f"{date.today()}  {machine['device_name']}, {args.threads} threads, torch {torch.__version__}, fp32")
    print(f"{len(ids)} sentences, {tokens:,} tokens; one by one: {len(few.ids)} of them")
    print(f"{'':20}{'tokens/s':>12}{'of GEMM only':>14}{'rwkv_sweep is':>18}")
    for name, rate in rates.items():
        print(f"{name:20}{rate:12,.0f}{rate / bound:14.1%}{rates['rwkv_sweep'] / rate:12.1f} times")
    write_record(args.out, args, {"machine": machine, "tokens_per_s": rates})


if __name__ == "__main__":
    main()
