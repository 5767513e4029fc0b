"""A small EmbeddingRWKV on the command line: scores of layers at the end-of-text token, with a head and without."""

from __future__ import annotations

import csv
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.embedding_rwkv_checkpoints import embedding_checkpoint
from tests.rwkv7_checkpoints import Array, Sizes, numpy_layers

Command = Callable[..., "subprocess.CompletedProcess[str]"]
SIZES = Sizes(blocks=2, heads=2, head_size=64, wide=128, ranks=(16, 16, 8, 24), vocab=257)
EOS = 256
COMPARED = 3


def head(checkpoint: dict[str, torch.Tensor], name: str, x: Array) -> Array:
    """The published formula."""
    part = {key: checkpoint[f"head.{name}_head.{key}"].double().numpy() for key in ("fc1.weight", "fc2.weight")}
    weight, bias = (checkpoint[f"head.{name}_head.norm.{key}"].double().numpy() for key in ("weight", "bias"))
    y = x + part["fc2.weight"] @ np.maximum(part["fc1.weight"] @ x, 0)
    return (y - y.mean()) / np.sqrt(y.var() + 1e-5) * weight + bias


def test_scores_are_those_of_the_published_equations(
    command: Command, job: list[str], pairs_file: Path, quality_only: list[str], tmp_path: Path
) -> None:
    checkpoint = embedding_checkpoint(SIZES)
    path = tmp_path / "small.pth"
    torch.save(checkpoint, path)
    model = [*job, f"model.path={path}", f"model.eos_id={EOS}", *quality_only, "tracking.enabled=false"]
    refused = command([*model, "postprocess=head", "postprocess.head=QA"], tmp_path / "refused")
    assert refused.returncode == 2 and "valid are CLS, RETR, STS" in refused.stderr.splitlines()[-1]
    assert list((tmp_path / "refused").iterdir()) == []
    swept = ["-m", *model, "pooling=eos", "postprocess=none,head", "layer=0,final"]
    done = command(swept, tmp_path)
    assert done.returncode == 0, done.stderr
    records: dict[tuple[str, str], tuple[dict[str, Any], Path]] = {}
    for file in tmp_path.glob("multirun/*/*/?/result.json"):
        record = json.loads(file.read_text())
        records[record["params"]["postprocess"], record["params"]["layer"]] = record, file.parent
    assert len(records) == 4
    network = {name.removeprefix("rwkv."): tensor for name, tensor in checkpoint.items() if name[:4] == "rwkv"}
    rows = [line.split("\t")[:2] for line in pairs_file.read_text().splitlines()[1 : 1 + COMPARED]]
    layers = [[numpy_layers(network, [*text.encode(), EOS])[:, -1] for text in row] for row in rows]
    for (postprocess, layer), (record, folder) in records.items():
        assert record["tags"]["end_of_text"].startswith("1 token 256") and record["params"]["depth"] in (1, 2)
        assert record["params"].get("postprocess.fit") is None
        with (folder / "pairs.csv").open() as file:
            scores = [float(row["score"]) for row in csv.DictReader(file)][:COMPARED]
        for score, pair in zip(scores, layers, strict=True):
            one, other = (vectors[1 if layer == "0" else -1] for vectors in pair)
            if postprocess == "head":
                one, other = (head(checkpoint, "sts", vector) for vector in (one, other))
            assert score == pytest.approx(one @ other / np.linalg.norm(one) / np.linalg.norm(other), abs=1e-4)
    assert "transductive" not in done.stdout
