"""The 8-bit formats that rows are quantized to."""

from __future__ import annotations

import torch

FP8 = torch.float8_e4m3fn

LARGEST = {torch.int8: 127.0, FP8: 448.0}
