"""Compile the CPU's Numba kernels for the usual sizes of heads and prepare MLflow's database: no run then waits for it.

rwkv-sweep warm
"""

# Shapes: T tokens, K inputs.
from __future__ import annotations

import argparse
import sys

HEAD_SIZES = (8, 64)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None."""


def run(args: argparse.Namespace) -> int:
    """Run the kernels of quantized layers, and the smallest model of each size of heads; prepare MLflow's database."""
    _compile()
    try:
        # Imported here, so that --help is quick.
        from rwkv_sweep.tracking.database import prepare_database

        prepare_database()
    except OSError as error:
        print(f"no prepared database ({error}): each new one takes seconds", file=sys.stderr)
    return 0


def _compile() -> None:
    import torch

    from rwkv_sweep.models.gated import cpu_forward as gated_cpu_forward
    from rwkv_sweep.models.generations import GENERATIONS
    from rwkv_sweep.ops.common.packing import Packed
    from rwkv_sweep.ops.numba import compiling
    from rwkv_sweep.ops.numba.int8 import dequantized, quantize_int8
    from rwkv_sweep.ops.numba.weight_only import int4_to_bf16, int8_to_bf16

    torch.set_num_threads(2)
    gated_cpu_forward.LITTLE = 0
    for compiling.LITTLE in (0, sys.maxsize):  # over several threads, and for one
        q_TK, scale_T = quantize_int8(torch.ones(1, 1))
        dequantized(q_TK.int(), scale_T, scale_T)
        int8_to_bf16(q_TK, scale_T)
        int4_to_bf16(torch.zeros(1, 32, dtype=torch.uint8), torch.ones(1, 1), torch.ones(1, 1), 64)
    for size in HEAD_SIZES:
        for generation in GENERATIONS.values():
            sizes = {"vocab_size": 4, "hidden_size": 64, "num_hidden_layers": 1, "head_size": size}
            config = generation.random_config({**sizes, "intermediate_size": 64})
            model = generation.draw(config, 0, torch.device("cpu")).eval().requires_grad_(False)
            for compiling.LITTLE in (0, sys.maxsize):
                with torch.inference_mode():
                    model(torch.tensor([0]), Packed.of([1]), [0], lambda *_: None, on_mean=lambda *_: None)
