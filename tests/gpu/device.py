"""The GPU that every test here uses."""

from __future__ import annotations

import torch

GPU = torch.device("cuda", max(0, torch.cuda.device_count() - 1))
"""The last one: where there are several, another is the current device meanwhile, and nothing may land on that."""
