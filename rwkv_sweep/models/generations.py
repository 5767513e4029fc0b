"""The generations of RWKV that run natively, one table. A further one is a package of its own and a line here."""

from __future__ import annotations

from pathlib import Path

from rwkv_sweep.models.common.generation import Generation
from rwkv_sweep.models.pretrained.weight_files import CONFIG_FILE, read_json, read_tensors, tensor_names
from rwkv_sweep.models.rwkv4.generation import GENERATION as RWKV4
from rwkv_sweep.models.rwkv5.generation import GENERATION as RWKV5
from rwkv_sweep.models.rwkv6.generation import GENERATION as RWKV6
from rwkv_sweep.models.rwkv7.generation import GENERATION as RWKV7

GENERATIONS = {generation.number: generation for generation in (RWKV4, RWKV5, RWKV6, RWKV7)}
DEFAULT_GENERATION = RWKV6.number
"""Of `model.source=random` where `model.generation` leaves it open, and whose reader says what unknown tensors lack."""


def generation_of(path: Path) -> Generation:
    """Which generation the checkpoint at `path` is of: what its config.json names, else what its tensors show.

    What is none of them is left to the reader of `DEFAULT_GENERATION`, which says what it lacks.

    Raises:
        UserError: a file is missing or damaged.
    """
    if path.is_dir():
        model_type = read_json(path / CONFIG_FILE).get("model_type")
        for generation in GENERATIONS.values():
            if model_type in generation.model_types:
                return generation
        names = tensor_names(path)
    else:
        names = list(read_tensors(path))
    fitting = (generation for generation in GENERATIONS.values() if generation.recognizes(names))
    return next(fitting, GENERATIONS[DEFAULT_GENERATION])
