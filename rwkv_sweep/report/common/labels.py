"""What a run of a sweep is called: what sets it apart from the others, in few words."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import PurePath

from rwkv_sweep.config.params import GROUPS
from rwkv_sweep.records.results import Result
from rwkv_sweep.report.common.run_groups import TRANSDUCTIVE, differing, is_transductive, layer, short_layers

DERIVED = ("depth", "postprocess.fit", "pooling.fit", "aggregation.fit", "aggregation.learned", "select.split")
"""Follow from other keys, and would repeat them."""
PLAIN = ("precision", "model", "dataset", "aggregation", "pooling")
"""Keys whose values need no name beside them, unless another key has the same value."""
UNCLEAR = re.compile(r"[\d.+-]*|true|false|none|all", re.IGNORECASE)


def varied_keys(results: Sequence[Result], swept: Sequence[str]) -> list[str]:
    """Parameters in which the model runs differ: layer and precision first, then groups, then what was swept.

    Failed runs count too, with what they asked for; a key that only some of the records know does not.
    """
    runs = [result for result in results if result.kind == "model" and result.params]
    common = [key for key in (runs[0].params if runs else {}) if all(key in run.params for run in runs)]
    varied = [key for key in differing(runs, DERIVED) if key in common]
    order = ["layer", "precision", *GROUPS, *swept]
    return sorted(varied, key=lambda key: order.index(key) if key in order else len(order))


def run_labels(results: Sequence[Result], keys: Sequence[str]) -> dict[str, str]:
    """A label for each run and baseline, by its name: `layer 5, int8`, `mean of all, fp16`, `word vectors`.

    keys: params in which the model runs differ, as `varied_keys` gives them.
    """
    models = [run for run in results if run.kind == "model"]
    shown = [key for key in keys if "." not in key or key.split(".")[0] not in keys]
    labels = {run.name: _label(run, shown, models) for run in models}
    # Where two are called alike, their whole names are the labels.
    twice = {label for label in labels.values() if list(labels.values()).count(label) > 1}
    labels = {name: name if label in twice else label for name, label in labels.items()}
    labels |= {run.name: labels[run.name] + f" ({TRANSDUCTIVE})" for run in models if is_transductive(run)}
    return labels | {run.name: run.name.replace("_", " ") for run in results if run.kind != "model"}


def _label(run: Result, keys: Sequence[str], models: Sequence[Result]) -> str:
    # The aggregation says how several layers became one vector; of one layer there is nothing to add.
    named_keys = [key for key in keys if key != "aggregation" or "layer" not in keys]
    parts = [_part(run, key, keys, models) for key in named_keys if run.params.get(key) is not None]
    return ", ".join(parts) or run.name


def _part(run: Result, key: str, keys: Sequence[str], models: Sequence[Result]) -> str:
    value = str(run.params[key])
    if key == "layer":
        return _layers(run)
    if key.split(".")[-1] == "path":
        value = _short_path(value, {str(other.params.get(key)) for other in models})
    shared = any(str(other.params.get(name)) == value for other in models for name in keys if name != key)
    clear = key in PLAIN and not UNCLEAR.fullmatch(value) and not shared
    return value if clear else f"{key.split('.')[-1].replace('_', ' ')} {value}"


def _short_path(path: str, others: Collection[str]) -> str:
    """The last part of a path, where no other path ends in the same."""
    name = PurePath(path).name
    return name if name and all(PurePath(other).name != name for other in others if other != path) else path


def _layers(run: Result) -> str:
    name, how = short_layers(layer(run)), str(run.params.get("aggregation", "none"))
    if name in ("final", "embedding"):
        return f"{name} layer"
    if how != "none":
        return f"{how} of {name}"
    return f"layer {name}" if name.isdigit() else f"layers {name}"
