"""Compile kernels and prepare MLflow's database: no run then waits for it.

rwkv-sweep warm                        the CPU's Numba kernels, for the usual sizes of heads, and the database
rwkv-sweep warm device=cuda model=random precision=fp16,int8   a GPU's Triton kernels, for the jobs of this sweep

The second form loads each of the sweep's models, and measures nothing.
"""

# Shapes: T tokens, K inputs.
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from rwkv_sweep.errors import UserError

HEAD_SIZES = (8, 64)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The overrides of a sweep."""
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as of a sweep: compile its jobs' kernels")


def run(args: argparse.Namespace) -> int:
    """Run the kernels of quantized layers, and the smallest model of each size of heads; prepare MLflow's database.

    Raises:
        UserError, UnsupportedError: overrides that are not valid, or that name no GPU of this machine.
    """
    if args.overrides:
        _compile_for_gpu(args.overrides)
        return 0
    _compile()
    try:
        # Imported here, so that --help is quick.
        from rwkv_sweep.tracking.database import prepare_database

        prepare_database()
    except OSError as error:
        print(f"no prepared database ({error}): each new one takes seconds", file=sys.stderr)
    return 0


def jobs_of(overrides: Sequence[str]) -> list[list[str]]:
    """The overrides of each job, as Hydra's basic sweeper makes them.

    Raises:
        UserError: they cannot be read.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        (jobs,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(list(overrides)), None)
    except HydraException as error:
        raise UserError(f"{' '.join(overrides)} cannot be read: {str(error).splitlines()[0]}") from error
    return jobs


def _compile_for_gpu(overrides: Sequence[str]) -> None:
    """Load the model of each job, and compile what it will launch."""
    from rwkv_sweep.api.composing import composed
    from rwkv_sweep.data.splits import load_splits
    from rwkv_sweep.embedding.embedder import Embedder
    from rwkv_sweep.embedding.layer_encoder import RwkvEncoder, tokens_per_batch
    from rwkv_sweep.hardware.devices import current_device, resolve_device
    from rwkv_sweep.sweep.runs.checking import check_device, check_layers
    from rwkv_sweep.sweep.runs.process import Process
    from rwkv_sweep.utils.console import log_line

    process = Process()
    for job in jobs_of(overrides):
        config = composed(tuple(job), {})
        device = resolve_device(config.device)
        if device.type != "cuda":
            raise UserError(
                f"{' '.join(job)} runs on a CPU, whose kernels do not depend on it: valid is device=cuda on a machine "
                "with a GPU, or rwkv-sweep warm alone"
            )
        check_device(config.precision, config.device)
        log_line(" ".join(job))
        with current_device(device):
            loaded = process.model.load(config.model, config.precision, device)
            size = tokens_per_batch(config.batch_tokens, device)
            encoder = RwkvEncoder(loaded, config.prompt, device, config.max_tokens, size)
            pooling = "mean" if config.pooling.name == "idf" else config.pooling.spec
            shape = loaded.model.config
            layers = check_layers(config.layer, pooling, config.aggregation, config.postprocess, shape)
            embedder = Embedder(encoder, layers, pooling, config.aggregation)
            split = load_splits(config.dataset)[0]
            read = process.tokens.read(encoder, split, config.seed)
            process.kernels.compile_job(embedder, config.precision, config.measure, split, read)


def _compile() -> None:
    import torch

    from rwkv_sweep.config.groups import PrecisionConfig
    from rwkv_sweep.models.gated import cpu_forward as gated_cpu_forward
    from rwkv_sweep.models.generations import GENERATIONS
    from rwkv_sweep.models.quantization import apply_precision
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
            for base in ("float32", "bfloat16"):
                model = generation.draw(config, 0, torch.device("cpu")).eval().requires_grad_(False)
                apply_precision(model, PrecisionConfig(base, base), torch.device("cpu"))
                for compiling.LITTLE in (0, sys.maxsize):
                    with torch.inference_mode():
                        model(torch.tensor([0]), Packed.of([1]), [0], lambda *_: None, on_mean=lambda *_: None)
