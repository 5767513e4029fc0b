"""The author's own inference code, the `rwkv` package, as a reference for generations before RWKV-7."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import Tensor

_SCRIPT = """
import sys, torch
from rwkv.model import RWKV
out, ids, *files = sys.argv[1:]
found = {}
for file in files:
    model = RWKV(model=file.removesuffix(".pth"), strategy="cpu fp32", verbose=False)
    found[file] = (model.forward([int(token) for token in ids.split()], None, full_output=True))
torch.save(found, out)
"""


def author(folder: Path, files: list[Path], ids: list[int]) -> dict[str, tuple[Tensor, list[Tensor]]]:
    """What the `rwkv` package gives for each file: logits [T, V], and the states as it lists them.

    In a process of its own, since the package decides for one generation when it is imported.
    """
    script, out = folder / "author.py", folder / "author.pt"
    script.write_text(_SCRIPT)
    environment = {**os.environ, "RWKV_V7_ON": "0", "RWKV_JIT_ON": "0", "RWKV_CUDA_ON": "0", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(out), " ".join(map(str, ids)), *map(str, files)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    results: dict[str, tuple[Tensor, list[Tensor]]] = torch.load(out)
    return results
