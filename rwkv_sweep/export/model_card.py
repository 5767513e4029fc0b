"""The model card of an exported encoder: what it is, what its run measured, how it is loaded, and its limits."""

from __future__ import annotations

import re
from typing import Any

from rwkv_sweep.data.corpus import TRANSDUCTIVE
from rwkv_sweep.records.encoder_record import EncoderRecord
from rwkv_sweep.records.results import Result
from rwkv_sweep.version import __version__

_FIGURES = (
    ("latency/mean_ms", "ms for a pair of sentences, one pair at a time", "{:,.2f}"),
    ("throughput/tokens_per_s", "tokens/s in packed batches", "{:,.0f}"),
    ("memory/weights_mib", "MiB of weights", "{:,.1f}"),
)
_GROUPS = ("model", "layer", "pooling", "aggregation", "postprocess", "prompt", "precision", "max_tokens")

HEAD = """---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags:
- rwkv
- sentence-embeddings
---

# {title}

Sentence vectors of {dimension} dimensions from hidden layers of a language model, as a run of rwkv_sweep {version}
measured them.

| key | value |
| --- | --- |
{keys}
"""

USE = """
## Use

    from rwkv_sweep import Encoder

    encoder = Encoder.from_run("{folder}")
    vectors = encoder.encode(["A cat sleeps.", "The cat is asleep."])

The package `rwkv_sweep` must be installed; this folder holds no code. With it, `SentenceTransformer("{folder}")` loads
the folder too; from sentence-transformers 6 on it wants `trust_remote_code=True` for every module outside its own
package, that of an installed one included. `mlflow.pyfunc.load_model("{folder}")` works as well.
"""


def model_card(record: EncoderRecord, result: Result | None) -> str:
    """Markdown. result: of the run, for its figures; None leaves them out."""
    values = {name: _shown(record.config, name) for name in _GROUPS}
    title = f"{values['model']}, layer {values['layer']}"
    keys = "\n".join(f"| {name} | {value} |" for name, value in values.items() if value != "none")
    parts = [HEAD.format(title=title, dimension=record.dimension, version=__version__, keys=keys)]
    if result is not None:
        parts.append(_measured(result))
    parts += [USE.format(folder="FOLDER"), _limits(record, result), _origin(record)]
    return "".join(parts)


def _measured(result: Result) -> str:
    rows = []
    # `quality/` first.
    for key, value in sorted(result.metrics.items(), key=lambda metric: not metric[0].startswith("quality/")):
        if match := re.fullmatch(r"quality/([^/]+)/spearman", key):
            low, high = (result.metrics.get(f"{key}_{end}") for end in ("lo", "hi"))
            interval = f" [{low:.3f}, {high:.3f}]" if low is not None and high is not None else ""
            pairs = result.metrics.get(f"quality/{match[1]}/pairs", 0)
            rows.append(f"| Spearman on split {match[1]}, {pairs:.0f} pairs, 95 % interval | {value:.3f}{interval} |")
        elif match := re.fullmatch(r"baseline/([^/]+)/delta", key):
            rows.append(f"| its difference to {match[1].replace('_', ' ')} | {value:+.3f} |")
    rows += [
        f"| {name} | {form.format(result.metrics[key])} |" for key, name, form in _FIGURES if key in result.metrics
    ]
    if not rows:
        return "\n## Measured\n\nThe run measured nothing.\n"
    where = f"{result.params.get('dataset')} {result.params.get('dataset.splits')}"
    device = result.tags.get("device_name", result.tags.get("device", "an unnamed device"))
    table = "\n".join(["| figure | value |", "| --- | ---: |", *rows])
    return f"\n## Measured\n\nOn {where}, on {device}:\n\n{table}\n"


def _limits(record: EncoderRecord, result: Result | None) -> str:
    limits = [
        f"Texts beyond {record.config['max_tokens']} tokens are cut off.",
        "A figure of a run that was chosen because it was the highest is optimistic: another split shows by how much.",
        "The figures hold for data like those scored; other languages and tasks were not measured.",
    ]
    tags = {} if result is None else result.tags
    params = {} if result is None else result.params
    if TRANSDUCTIVE in (params.get("postprocess.fit"), params.get("pooling.fit")):
        limits.insert(0, "What was fitted was fitted on the scored sentences themselves (transductive).")
    if "note.quality" in tags:
        limits.insert(0, f"Quality is {tags['note.quality']}.")
    if record.config["precision"]["quantization"] == "int8":
        limits.append("LLM.int8 chooses its outlier columns over a whole batch, so vectors depend a little on others.")
    return "\n## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits) + "\n"


def _origin(record: EncoderRecord) -> str:
    model = record.config["model"]
    source = f"{model['id']} at revision {model['revision']}" if model.get("id") else model["name"]
    versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
    return (
        f"\n## Origin\n\nWeights: {source}, fingerprint {record.model_fingerprint}; their licence is that of their "
        f"source.\nComputed with {versions}, on {record.device}. Run: {record.run}.\n"
    )


def _shown(config: dict[str, Any], name: str) -> str:
    value = config[name]
    return str(value["name"] if isinstance(value, dict) else value)
