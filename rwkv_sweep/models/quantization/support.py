"""What a device and a build can run, found out before anything is loaded."""

from __future__ import annotations

import torch

from rwkv_sweep.config.schema import BASES, CALIBRATIONS, QUANTIZATIONS, PrecisionConfig, require_one_of
from rwkv_sweep.errors import UnsupportedError, UserError
from rwkv_sweep.models.quantization.bitsandbytes_layers import load_bitsandbytes
from rwkv_sweep.models.quantization.dtypes import TF32

NEEDED = {"int8": (7, 5), "nf4": (6, 0), "fp4": (6, 0), "int8_dynamic": (8, 0), "fp8": (8, 9)}
"""Compute capability that each quantization needs of a GPU."""
BY_BITSANDBYTES = ("int8", "nf4", "fp4")


def check_precision(precision: PrecisionConfig, device: torch.device) -> None:
    """Say early what `apply_precision` could not do.

    Raises:
        UserError: the device is not there, or the precision is not known or contradicts itself.
        UnsupportedError: this device, or what is installed, cannot run this precision.
    """
    require_one_of("precision.base", precision.base, BASES)
    require_one_of("precision.quantization", precision.quantization, QUANTIZATIONS)
    require_one_of("precision.calibration", precision.calibration, CALIBRATIONS)
    require_one_of("device.type", device.type, ("cpu", "cuda"))
    if precision.double_quantization and precision.quantization not in ("nf4", "fp4"):
        raise UserError(
            f"precision.double_quantization=true with precision.quantization={precision.quantization}: valid with nf4 "
            "and fp4, whose scales it quantizes"
        )
    _check_calibration(precision)
    if device.type == "cpu":
        _check_cpu(precision)
    else:
        _check_gpu(precision, device, _capability(device))
    if precision.quantization in BY_BITSANDBYTES:
        load_bitsandbytes()


def _check_calibration(precision: PrecisionConfig) -> None:
    """Raises UserError for a calibration of what has none."""
    if precision.calibration != "none" and precision.quantization != "int4":
        raise UserError(
            f"precision.calibration={precision.calibration} with precision.quantization={precision.quantization}: "
            "valid with int4, whose codes it chooses"
        )


def _check_cpu(precision: PrecisionConfig) -> None:
    if precision.base == TF32:
        raise UnsupportedError(f"precision.base={TF32} needs a GPU of compute capability 8.0: a CPU has no TF32")
    if precision.quantization == "fp8":
        raise UnsupportedError("precision.quantization=fp8 needs a GPU of compute capability 8.9: a CPU has no fp8")


def _check_gpu(precision: PrecisionConfig, device: torch.device, capability: tuple[int, int]) -> None:
    if precision.base in ("bfloat16", TF32) and capability < (8, 0):
        raise UnsupportedError(
            f"precision.base={precision.base} needs a GPU of compute capability 8.0, and {device} has "
            f"{capability[0]}.{capability[1]}: valid there are float32 and float16"
        )
    needed = NEEDED.get(precision.quantization, (0, 0))
    if capability < needed:
        raise UnsupportedError(
            f"precision.quantization={precision.quantization} needs a GPU of compute capability "
            f"{needed[0]}.{needed[1]}, and {device} has {capability[0]}.{capability[1]}"
        )


def _capability(device: torch.device) -> tuple[int, int]:
    if not torch.cuda.is_available():
        raise UserError(f"device.type=cuda, but torch {torch.__version__} finds no GPU here: valid is device=cpu")
    count = torch.cuda.device_count()
    if (device.index or 0) >= count:
        raise UserError(f"device.index={device.index} is not there: this machine has GPUs 0 to {count - 1}")
    return torch.cuda.get_device_capability(device)
