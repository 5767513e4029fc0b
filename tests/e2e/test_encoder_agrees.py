"""The overrides of a run make an encoder that gives the run's own scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from rwkv_sweep import Encoder
from rwkv_sweep.config.schema import DatasetConfig
from rwkv_sweep.data.splits import load_splits
from rwkv_sweep.errors import UserError
from rwkv_sweep.records.results import read_scores
from tests.e2e.test_postprocess import Command, folder

__all__ = ["folder"]  # a fixture


def test_scores_of_runs_come_out_of_encoders(
    command: Command, job: list[str], folder: Path, quality_only: list[str], tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("The bank kept its rates.\n\nRain fell.\nA cat slept, he said.\n", encoding="utf-8")
    arguments = ["-m", *job, f"dataset.path={folder}", "dataset.splits=[validation]", "layer=[2,5]", *quality_only]
    arguments += ["aggregation=mean", "tracking.enabled=false", "baselines=[]"]
    runs = [
        ["pooling=idf", "pooling.fit=null,train"],
        ["pooling=idf", f"pooling.corpus={corpus}"],
        ["pooling=mean,idf", "pooling.fit=train", "postprocess=center,abtt,whiten", "postprocess.fit=train"],
    ]
    compared = refused = 0
    (pairs,) = load_splits(DatasetConfig("pairs", "file", str(folder), splits=["validation"]))
    for number, more in enumerate(runs):
        cwd = tmp_path / str(number)
        done = command([*arguments, *more], cwd)
        assert done.returncode == 0, done.stderr
        for path in cwd.glob("multirun/*/*/*/result.json"):
            overrides = list(OmegaConf.load(path.parent / ".hydra" / "overrides.yaml"))
            if json.loads(path.read_text(encoding="utf-8"))["params"]["pooling.fit"] == "transductive":
                with pytest.raises(UserError, match="pooling=idf needs texts"):
                    Encoder.from_config(*overrides)
                refused += 1
                continue
            encoder = Encoder.from_config(*overrides)
            first, second = (encoder.encode(list(texts)) for texts in (pairs.sentences1, pairs.sentences2))
            scores = read_scores(path.parent, "validation")
            np.testing.assert_allclose(encoder.similarity_pairwise(first, second), scores, rtol=0, atol=1e-6)
            compared += 1
    assert (compared, refused) == (1 + 1 + 6, 1)
