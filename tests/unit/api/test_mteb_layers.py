"""Layers side by side in mteb 2, on tasks of every kind that lie in memory; the table without mteb."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from rwkv_sweep import Encoder
from rwkv_sweep.api.mteb_layers import LayerScores, TextVectors, evaluate_layers
from rwkv_sweep.errors import UserError
from rwkv_sweep.evaluation.metrics import cosine
from rwkv_sweep.records.results import Result
from tests.mteb_tasks import kinds

SMALL = (
    "model=random",
    "model.tokenizer=bytes",
    "model.hidden_size=32",
    "model.num_blocks=3",
    "model.head_size=8",
    "model.intermediate_size=64",
    "model.vocab_size=256",
    "device=cpu",
)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.from_config(*SMALL)


# --- without mteb --------------------------------------------------------------------------------------------------


def test_average_and_borda_count() -> None:
    scores = LayerScores(["1", "3", "final"], ["a", "b"], np.array([[0.9, 0.2], [0.5, 0.4], [0.5, 0.3]]))
    np.testing.assert_allclose(scores.average_L, [0.55, 0.45, 0.4])
    # Task a: layer 1 beats two, the others are equal. Task b: 3 beats two, final one.
    np.testing.assert_allclose(scores.borda_L, [2.0, 2.5, 1.5])
    lines = scores.csv().splitlines()
    assert lines[0] == "layer,a,b,average,borda"
    assert [line.split(",")[0] for line in lines[1:]] == ["3", "1", "final"], "best first"


def test_each_text_is_read_once(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = Encoder.encode_layers

    def watched(self: Encoder, sentences: Any, *args: Any, **kwargs: Any) -> np.ndarray:
        read.extend(sentences)
        return real(self, sentences, *args, **kwargs)

    monkeypatch.setattr(Encoder, "encode_layers", watched)
    texts = TextVectors(encoder, [0, 2], 512, "error")
    asked = ["one", "two", "one"]
    rows = [texts.of(asked, "", row) for row in (0, 1)]
    again = texts.of(["two", "three"], "", 1)
    assert read == ["one", "two", "three"]
    expected = real(encoder, ["one", "two", "three"], [0, 2])
    np.testing.assert_allclose(np.stack(rows), expected[:, [0, 1, 0]], atol=1e-5)
    np.testing.assert_allclose(again, expected[1][[1, 2]], atol=1e-5)
    texts.of(["one"], "Question: ", 0)
    assert read[3:] == ["one"], "behind a prompt it is another text"


# --- in mteb -------------------------------------------------------------------------------------------------------


def test_all_kinds_of_tasks_by_layer() -> None:
    tasks = kinds()
    encoder = Encoder.from_config("layer=3", "device=cpu")
    scores = evaluate_layers(encoder, tasks, [1, 5, "final"])
    assert scores.layers == ["1", "5", "final"] and scores.tasks == [task.metadata.name for task in tasks]
    assert scores.scores_LN.shape == (3, 5) and np.isfinite(scores.scores_LN).all()
    classes_L, clusters_L, actual_L, reranked_L = scores.scores_LN[:, 1:].T
    assert (classes_L > 0.8).all() and (clusters_L >= 0).all() and clusters_L.max() > 0.1
    assert (np.stack([actual_L, reranked_L]) > 0.4).all(), "a third of the texts would be right at random"
    # The pairs as scored by our own path, and the whole as one layer alone gives it.
    rows = tasks[0].dataset["test"] if tasks[0].data_loaded else None
    if rows is None:
        tasks[0].load_data()
        rows = tasks[0].dataset["test"]
    own = [
        spearmanr(
            cosine(encoder.encode(rows["sentence1"][:], layer), encoder.encode(rows["sentence2"][:], layer)),
            rows["score"][:],
        ).statistic
        for layer in (1, 5, "final")
    ]
    np.testing.assert_allclose(scores.scores_LN[:, 0], own, atol=1e-4)
    alone = evaluate_layers(encoder, kinds()[3:4], 5)
    np.testing.assert_allclose(alone.scores_LN[0, 0], scores.scores_LN[1, 3], atol=1e-6)


def test_what_there_is_not_is_one_line(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mteb", reason="mteb is not installed")
    with pytest.raises(UserError, match=r"^task=NoSuchTask is none of mteb's: [^\n]*$"):
        evaluate_layers(encoder, ["NoSuchTask"])
    with pytest.raises(UserError, match=r"^evaluate_layers has no tasks"):
        evaluate_layers(encoder, [])
    task = kinds()[0]

    def refuse(*args: object, **kwargs: object) -> None:
        raise ConnectionError("Couldn't reach the hub")

    monkeypatch.setattr(type(task), "load_data", refuse)
    with pytest.raises(UserError) as caught:
        evaluate_layers(encoder, [task])
    assert str(caught.value) == (
        "task=MemorySTS: its data cannot be had (ConnectionError: Couldn't reach the hub); offline, run `hf download "
        "--repo-type dataset none/in-memory --revision 1` where there is a network, and set HF_HOME to a copy of that "
        "cache"
    )


def test_without_mteb_one_line_says_what_to_install(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "mteb", None)
    with pytest.raises(UserError, match=r"^evaluate_layers needs mteb, .* pip install 'mteb>=2\.20'$"):
        evaluate_layers(encoder, ["STS12"])


def test_the_command_scores_layers_and_reads_texts_once(tmp_path: Path) -> None:
    """One task of each kind, two layers; the second layer's vectors come from the first one's pass."""
    pytest.importorskip("mteb", reason="mteb is not installed")
    names = [task.metadata.name for task in kinds()]
    code = "from tests.mteb_tasks import run_command; run_command()"
    arguments = ["+experiment=mteb", "layer=3,final", f"dataset.tasks=[{','.join(names)}]", "hydra.sweep.dir=sweep"]
    root = Path(__file__).parents[3]
    paths = os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "COLUMNS": "300"}
    command = [sys.executable, "-c", code, *arguments]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "tasks of MTEB" in ended.stdout and "Borda" in ended.stdout
    table = (tmp_path / "sweep" / "summary.md").read_text(encoding="utf-8")
    assert all(name in table for name in (*names, "average", "Borda"))
    runs = [Result.load(tmp_path / "sweep" / str(number)) for number in (0, 1)]
    assert "time/forward_s" in runs[0].metrics and "time/forward_s" not in runs[1].metrics
    scores = evaluate_layers(Encoder.from_config("layer=3"), kinds(), [3, "final"])
    for run, expected in zip(runs, scores.scores_LN, strict=True):
        measured = [run.metrics[f"tasks/{name}"] for name in names]
        np.testing.assert_allclose(measured, expected, atol=1e-4)
        assert run.metrics["tasks/average"] == pytest.approx(np.mean(measured))
