"""Kernels run on the device of the tensors that they are given.

Triton launches on the current device, which need not be that one where a machine has several.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

Args = ParamSpec("Args")
Result = TypeVar("Result")


def on_device_of_input(function: Callable[Args, Result]) -> Callable[Args, Result]:
    """Run `function` with the device of its first tensor, or of a tensor within its first argument, as the current one.

    Costs a look at the current device where that is it already.
    """

    @functools.wraps(function)
    def wrapped(*args: Args.args, **kwargs: Args.kwargs) -> Result:
        device = _device_of(args[0])
        if device.type != "cuda" or device.index == torch.cuda.current_device():
            return function(*args, **kwargs)
        with torch.cuda.device(device):
            return function(*args, **kwargs)

    return wrapped


def _device_of(value: object) -> torch.device:
    """Of a tensor, or of a tuple or dataclass whose first field is one."""
    if isinstance(value, Tensor):
        return value.device
    first = value[0] if isinstance(value, (tuple, list)) else next(iter(vars(value).values()))
    return _device_of(first)
