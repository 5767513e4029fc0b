"""Compile the loops for the usual sizes of heads, so that no run waits for it: python -m rwkv_sweep.models.loops"""

from __future__ import annotations

import sys

import torch

from rwkv_sweep.models import fused_cpu
from rwkv_sweep.models.initialize import initialize
from rwkv_sweep.models.loops import compiling
from rwkv_sweep.models.loops.int8 import dequantized, quantize_int8
from rwkv_sweep.models.packed import Packed
from rwkv_sweep.models.rwkv6 import Rwkv6Config, Rwkv6Model

HEAD_SIZES = (8, 64)


def main() -> None:
    """Run the loops around int8 products, and the smallest model of each size of heads."""
    torch.set_num_threads(2)
    fused_cpu.LITTLE = 0
    for compiling.LITTLE in (0, sys.maxsize):  # over several threads, and for one
        q_TK, scale_T = quantize_int8(torch.ones(1, 1))
        dequantized(q_TK.int(), scale_T, scale_T)
    for size in HEAD_SIZES:
        model = Rwkv6Model(Rwkv6Config(4, 64, 1, head_size=size)).eval()
        initialize(model, seed=0, zero_outputs=False)
        for compiling.LITTLE in (0, sys.maxsize):
            with torch.inference_mode():
                model(torch.tensor([0]), Packed.of([1]), [0], lambda *_: None, on_mean=lambda *_: None)


if __name__ == "__main__":
    main()
