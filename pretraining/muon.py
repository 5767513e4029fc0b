"""The Muon optimizer for many small matrices: matrices of one shape are updated in one batched product.

torch.optim.Muon works through the matrices one by one, which for a hundred small ones is limited by kernel launches.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made nearly orthogonal (Jordan et al., 2024), with decoupled weight decay.

    The learning rate is a tensor, so that a captured CUDA graph of a step can follow a schedule.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: Tensor, weight_decay: float, momentum: float = 0.95) -> None:
        by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
        for parameter in params:
            by_shape[parameter.shape].append(parameter)
        groups = [{"params": group} for group in by_shape.values()]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            params = group["params"]
            grad_NRC = torch.stack([parameter.grad for parameter in params])
            state = self.state[params[0]]
            if not state:
                state["momentum"] = torch.zeros_like(grad_NRC)
            state["momentum"].lerp_(grad_NRC, 1 - group["momentum"])
            update_NRC = orthogonalized(grad_NRC.lerp(state["momentum"], group["momentum"]))
            rows, columns = params[0].shape
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            scale = group["lr"] * max(1.0, rows / columns) ** 0.5
            torch._foreach_sub_(params, list((update_NRC * scale).unbind()))


def orthogonalized(matrix_NRC: Tensor) -> Tensor:
    """Bring the singular values of each matrix near 1 by Newton-Schulz iterations, in bf16."""
    x = matrix_NRC.bfloat16()
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    a, b, c = NEWTON_SCHULZ
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT
