"""Task heads of EmbeddingRWKV (arXiv 2601.07861): a small network behind the pooled vector, one for each kind of task.

y = LayerNorm(x + W2 relu(W1 x)), without biases but in the norm.

Shapes: S sentences, D hidden size, H width inside a head.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rwkv_sweep.errors import UserError
from rwkv_sweep.models.common.checkpoint_tensors import DTYPES, check_finite
from rwkv_sweep.models.pretrained.weight_files import few
from rwkv_sweep.utils.console import log_line_once

EPSILON = 1e-5
_HEAD = re.compile(r"head\.(\w+)_head\.(.+)")
_VISION = re.compile(r"(vit|proj)\.")
PARTS = ("fc1.weight", "fc2.weight", "norm.weight", "norm.bias")


@dataclass(frozen=True)
class TaskHead:
    """One head.

    Attributes:
        fc1_HD, fc2_DH, weight_D, bias_D: as the file has them, on the CPU.
    """

    fc1_HD: Tensor
    fc2_DH: Tensor
    weight_D: Tensor
    bias_D: Tensor

    def apply(self, vectors_SD: np.ndarray) -> np.ndarray:
        """[S, D] to [S, D], in float64."""
        fc1_HD, fc2_DH, weight_D, bias_D = self._double
        added_SD = vectors_SD + np.maximum(vectors_SD @ fc1_HD.T, 0) @ fc2_DH.T
        centred_SD = added_SD - added_SD.mean(1, keepdims=True)
        variance_S1 = np.square(centred_SD).mean(1, keepdims=True)
        normed_SD: np.ndarray = centred_SD / np.sqrt(variance_S1 + EPSILON) * weight_D + bias_D
        return normed_SD

    @functools.cached_property
    def _double(self) -> tuple[np.ndarray, ...]:
        parts = (self.fc1_HD, self.fc2_DH, self.weight_D, self.bias_D)
        return tuple(part.to(torch.float64).numpy() for part in parts)


def without_task_heads(path: Path, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors of the network itself, and those of the task heads. Of a file with heads the parts that read images are
    left out too, with a line in the log."""
    heads = {name: tensor for name, tensor in tensors.items() if _HEAD.fullmatch(name)}
    vision = [name for name in tensors if heads and _VISION.match(name)]
    if vision:
        log_line_once(f"{path}: what reads images ({few(vision)}) is left out: only texts are read")
    left_out = {*heads, *vision}
    return {name: tensor for name, tensor in tensors.items() if name not in left_out}, heads


def task_heads(path: Path, tensors: Mapping[str, Tensor], hidden_size: int) -> dict[str, TaskHead]:
    """The heads by name, such as `STS`, from the tensors that `without_task_heads` gives; numbers are not looked at.

    Raises:
        UserError: a tensor is missing, unexpected, of another shape or dtype.
    """
    by_name: dict[str, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        head, part = _name_and_part(name)
        if part not in PARTS or tensor.dtype not in DTYPES:
            what = "another dtype" if part in PARTS else "unexpected"
            raise UserError(f"{path} does not hold the task head {head} of an EmbeddingRWKV: {what}: {name}")
        by_name.setdefault(head, {})[part] = tensor
    return {head: _head(path, head, parts, hidden_size) for head, parts in sorted(by_name.items())}


def check_finite_heads(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raises UserError where a head holds NaN or infinity."""
    check_finite(path, tensors, {name: name for name in tensors})


def _name_and_part(name: str) -> tuple[str, str]:
    match = _HEAD.fullmatch(name)
    assert match is not None, name
    return match[1].upper(), match[2]


def _head(path: Path, head: str, parts: Mapping[str, Tensor], hidden_size: int) -> TaskHead:
    before = f"head.{head.lower()}_head."
    if lacking := [before + part for part in PARTS if part not in parts]:
        raise UserError(f"{path} does not hold the task head {head} of an EmbeddingRWKV: missing: {few(lacking)}")
    first = parts["fc1.weight"]
    inner = first.shape[0] if first.dim() == 2 else hidden_size
    expected = {
        "fc1.weight": (inner, hidden_size),
        "fc2.weight": (hidden_size, inner),
        "norm.weight": (hidden_size,),
        "norm.bias": (hidden_size,),
    }
    wrong = [
        f"{before}{part} {list(parts[part].shape)} (expected {list(shape)})"
        for part, shape in expected.items()
        if tuple(parts[part].shape) != shape or 0 in shape
    ]
    if wrong:
        raise UserError(
            f"{path} does not hold the task head {head} of an EmbeddingRWKV of hidden size {hidden_size}: of another "
            f"shape: {few(wrong)}"
        )
    return TaskHead(*(parts[part] for part in PARTS))
