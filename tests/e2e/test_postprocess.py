"""Post-processing on the command line: what it is fitted on, and what is said of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SPLITS = ("train", "validation")
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def folder(pairs_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train.tsv and validation.tsv: 14 and 12 of the 24 pairs, of which two are in both."""
    header, *rows = pairs_file.read_text(encoding="utf-8").splitlines()
    made = tmp_path_factory.mktemp("splits")
    for name, part in zip(SPLITS, (rows[:14], rows[12:]), strict=True):
        (made / f"{name}.tsv").write_text("\n".join([header, *part]) + "\n", encoding="utf-8")
    return made


def results(cwd: Path) -> dict[str, Any]:
    read = [json.loads(path.read_text()) for path in cwd.glob("multirun/*/*/*/result.json")]
    return {content["name"]: content for content in read}


def test_fitted_on_another_split_without_the_scored_sentences(
    command: Command, job: list[str], folder: Path, quality_only: list[str], tmp_path: Path
) -> None:
    arguments = ["-m", *job, f"dataset.path={folder}", "dataset.splits=[validation]", "layer=5", *quality_only]
    arguments += ["postprocess=none,whiten", "postprocess.fit=null,train,validation", "tracking.enabled=false"]
    done = command(arguments, tmp_path)
    actual = results(tmp_path)
    fit = {name: result["params"].get("postprocess.fit") for name, result in actual.items()}
    lines = {name: (folder / f"{name}.tsv").read_text(encoding="utf-8").splitlines()[1:] for name in SPLITS}
    train, scored = ([text for line in lines[name] for text in line.split("\t")[:2]] for name in SPLITS)
    shared = sum(text in scored for text in train)
    assert 0 < shared < len(train)
    message = f"train without the {shared} sentences that are scored too"
    assert fit["postprocess=whiten,postprocess.fit=train"] == message
    assert fit["postprocess=whiten,postprocess.fit=null"] == "transductive"
    refused = actual["postprocess=whiten,postprocess.fit=validation"]
    assert refused["status"] == "FAILED" and "no sentence that is not scored" in refused["error"]["message"]
    assert done.returncode == 1
    spearman = {name: result["metrics"].get("quality/spearman") for name, result in actual.items()}
    own, other = (spearman[f"postprocess=whiten,postprocess.fit={name}"] for name in ("null", "train"))
    assert own != other
