"""What MLflow's own pages show of a run beside its numbers: a description, its data, its model."""

from __future__ import annotations

import getpass
import json
import math
import re
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag

from rwkv_sweep.records.results import FAILED, UNDEFINED, UNSUPPORTED, Result

DESCRIPTION = "mlflow.note.content"
MAX_DESCRIPTION = 7900
"""MLflow's limit on a tag's value, less a margin."""
MAX_DIGEST = 16
MAX_MODEL_NAME = 200
_FIGURES = (
    ("latency/mean_ms", "{:,.2f} ms a pair"),
    ("throughput/tokens_per_s", "{:,.0f} tokens/s"),
    ("memory/weights_mib", "weights {:,.1f} MiB"),
)


def run_tags(result: Result) -> dict[str, str]:
    """Tags that MLflow's pages have places for: who ran it, from what, of which version."""
    tags = {"mlflow.user": _user(), "mlflow.source.type": "LOCAL", DESCRIPTION: description(result)}
    commit = result.tags.get("commit", "")
    return {**tags, "mlflow.source.git.commit": commit} if commit else tags


def description(result: Result) -> str:
    """What the run was and what came out, in two or three sentences of Markdown."""
    what = [str(result.params[key]) for key in ("model", "precision") if result.params.get(key)]
    if result.kind == "model":
        what.append(f"layer {result.params.get('layer')}")
        for key in ("pooling", "aggregation", "postprocess", "prompt"):
            if result.params.get(key) not in (None, "none"):
                what.append(f"{key} {result.params[key]}")
    lines = [", ".join([*what, f"on {dataset_name(result)}"]) + "."]
    if result.error is not None:
        kind, message = result.error.get("kind", ""), result.error.get("message", "")
        lines.append(f"**{result.status}** ({kind}): {message}")
    if figures := _figures(result.metrics):
        lines.append(figures)
    return shortened("\n\n".join(lines))


def shortened(text: str) -> str:
    """`text` as far as MLflow takes it, in whole lines where it has more than one."""
    if len(text) <= MAX_DESCRIPTION:
        return text
    cut = text[: MAX_DESCRIPTION - 40]
    return (cut.rpartition("\n")[0] or cut) + "\n\n... (the rest is in the artifacts)"


def dataset_name(result: Result) -> str:
    """`mrpc[train,validation]`: the data set and what of it was scored."""
    splits = str(result.params.get("dataset.splits") or "all")
    # A list stands in brackets of its own (a run's) or bare (a baseline's), and a slice ends in one: `[all[:60]]`.
    splits = splits[1:-1] if splits.startswith("[") else splits
    return f"{result.params.get('dataset', 'data')}[{splits}]"


def dataset_input(result: Result) -> DatasetInput | None:
    """The pairs, as `mlflow.data` describes them; None where the run failed before it had read any."""
    digest = result.tags.get("data_fingerprint")
    if digest is None:
        return None
    columns = {"sentence1": "string", "sentence2": "string", "label": "double"}
    # `quality/SPLIT/pairs`; `quality/pairs` is the first split once more.
    rows = [value for key, value in result.metrics.items() if re.fullmatch(r"quality/[^/]+/pairs", key)]
    kind, source = _source(result.params)
    dataset = Dataset(
        name=dataset_name(result),
        digest=digest[:MAX_DIGEST],
        source_type=kind,
        source=json.dumps(source),
        schema=json.dumps({"mlflow_colspec": [{"name": name, "type": of} for name, of in columns.items()]}),
        profile=json.dumps({"num_rows": int(sum(rows))}) if rows else None,
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "evaluation")])


def model_name(result: Result) -> str | None:
    """`tiny-fp16`: weights and their precision, which many runs share; None where nothing was loaded."""
    if "model_fingerprint" not in result.tags:
        return None
    parts = [str(result.params.get(key) or "") for key in ("model", "precision")]
    # MLflow refuses these characters in a model's name, and a name without any.
    name = "-".join(filter(None, parts))
    kept = ("_" if character in "/:.%\"'" or not character.isprintable() else character for character in name)
    return "".join(kept).strip("- ")[:MAX_MODEL_NAME] or "unnamed"


def model_params(result: Result) -> dict[str, str]:
    """Where the model's weights come from, as far as the run recorded it."""
    keys = ("model", "model.id", "model.revision", "model.path", "precision", "precision.blocks", "precision.modules")
    return {key: str(result.params[key]) for key in keys if result.params.get(key) is not None}


def _figures(metrics: dict[str, float]) -> str:
    parts = []
    if "quality/spearman" in metrics:
        bounds = [metrics.get(f"quality/spearman_{end}", math.nan) for end in ("lo", "hi")]
        parts.append(f"Spearman **{metrics['quality/spearman']:.3f}** [{bounds[0]:.3f}, {bounds[1]:.3f}]")
    for key, value in metrics.items():
        if key.startswith("baseline/") and key.endswith("/delta"):
            parts.append(f"{value:+.3f} against {key.split('/')[1].replace('_', ' ')}")
    parts += [form.format(metrics[key]) for key, form in _FIGURES if key in metrics]
    return ", ".join(parts) + "." if parts else ""


def _source(params: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """MLflow's kind of source, and where the pairs are: the hub, a file, or this package."""
    location = {key: params.get(f"dataset.{key}") for key in ("path", "id", "subset", "revision")}
    if location["path"]:
        return "local", {"uri": str(location["path"])}
    if params.get("dataset.source") == "hub":
        return "hugging_face", {
            "path": location["id"],
            "config_name": location["subset"],
            "revision": location["revision"],
        }
    return "code", {"tags": {"mlflow.source.name": "rwkv_sweep", "mlflow.source.type": "LOCAL"}}


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container's user may have no name
        return "unknown"


def mlflow_status(status: str) -> str:
    """MLflow has no word for what a device cannot do, or data leave undefined; the tag `rwkv_sweep.status` has it."""
    return FAILED if status in (UNSUPPORTED, UNDEFINED) else status
