"""Tasks of mteb for runs, without mteb: texts read once, texts without tokens, what is refused."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import pytest

from rwkv_sweep.errors import NoTokensError, UserError
from rwkv_sweep.evaluation.tasks import loading, task_pass
from rwkv_sweep.evaluation.tasks.loading import check_tasks, loaded_task
from rwkv_sweep.evaluation.tasks.task_pass import TaskEncoder, measure_tasks


class Reader:
    """Vectors of texts by their length; a text without letters has no tokens."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        if empty := [row for row, text in enumerate(texts) if not text.strip()]:
            raise NoTokensError("no tokens", empty)
        self.read += texts
        return np.array([[len(text), 1.0] for text in texts])


def test_each_text_is_read_once_and_an_empty_one_is_zeros() -> None:
    reader = Reader()
    encoder = TaskEncoder(reader, 2, "layer=3", "revision")
    batches = [{"text": ["one", "three", ""]}, {"text": ["one", " "]}]
    expected = [[3, 1], [5, 1], [0, 0], [3, 1], [0, 0]]
    np.testing.assert_array_equal(encoder.encode(batches, task_metadata=None, prompt_type="query"), expected)
    np.testing.assert_array_equal(encoder.encode([{"text": ["three", "", "four"]}]), [[5, 1], [0, 0], [4, 1]])
    assert reader.read == ["one", "three", "four"]
    assert encoder.encode([]).shape == (0, 2)


def test_scores_and_their_average(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {"A": 0.25, "B": 0.75}
    monkeypatch.setattr(task_pass, "loaded_task", lambda name: name)
    monkeypatch.setattr(task_pass, "main_score", lambda encoder, task, batch_size: scores[task])
    metrics = measure_tasks(Reader(), 2, ["A", "B"], "layer=3", "revision")
    assert metrics == {"tasks/A": 0.25, "tasks/B": 0.75, "tasks/average": 0.5}
    assert measure_tasks(Reader(), 2, [], "layer=3", "revision") == {}


def test_what_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mteb", None)
    loaded_task.cache_clear()
    with pytest.raises(UserError, match=r"^dataset\.tasks needs mteb, .* pip install 'mteb>=2\.20'$"):
        check_tasks(["A"])
    monkeypatch.setattr(loading, "loaded_task", lambda name: name)
    check_tasks(["A", "B"])
    with pytest.raises(UserError, match=r"^dataset\.tasks=\[A,B,A\] names A twice: valid is each task once$"):
        check_tasks(["A", "B", "A"])
