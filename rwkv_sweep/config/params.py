"""A run's configuration as flat parameters, and the names made from it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields
from typing import Any

from rwkv_sweep.config.schema import RunConfig
from rwkv_sweep.utils.redaction import redact

GROUPS = ("model", "pooling", "precision", "aggregation", "postprocess", "prompt", "device", "dataset")
RUN_KEYS = frozenset(field.name for field in fields(RunConfig))


def flat_params(run: RunConfig) -> dict[str, Any]:
    """Every key of the resolved config; a group's chosen option stands under the group's own name."""
    flat: dict[str, Any] = {}
    for key, value in asdict(run).items():
        if isinstance(value, dict):
            flat.update({f"{key}.{inner}": inner_value for inner, inner_value in value.items()})
        else:
            flat[key] = value
    for group in GROUPS:
        flat[group] = flat.pop(f"{group}.name")
    return {key: redact(value) if isinstance(value, str) else _plain(value) for key, value in flat.items()}


def run_name(run: RunConfig, overrides: list[str], swept: list[str]) -> str:
    """What was swept, as `layer=1,precision=fp16`; for a run that sweeps nothing, what it is."""
    chosen = [override for override in overrides if override.split("=")[0].lstrip("+~") in swept]
    if chosen:
        return ",".join(chosen)
    return f"model={run.model.name},layer={_plain(run.layer)},precision={run.precision.name}"


def data_key(run: RunConfig) -> str:
    """A short digest of all that decides what a baseline gives: jobs with the same one share their baselines."""
    used = {"dataset": asdict(run.dataset), "word_vectors": asdict(run.word_vectors), "seed": run.seed}
    used["bootstrap"] = run.bootstrap
    return hashlib.sha256(json.dumps(used, sort_keys=True).encode()).hexdigest()[:8]


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(str(item) for item in value) + "]"
    return value
