"""A sweep from the command line ends with its page: in its folder, named on the terminal, among MLflow's artifacts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any


def data_of(path: Path) -> dict[str, Any]:
    actual = re.search(r'id="data">(.*?)</script>', path.read_text("utf-8"), re.S)
    assert actual is not None
    return json.loads(actual[1])


def test_page_of_a_multirun(command: Any, job: list[str], tmp_path: Path) -> None:
    done = command(["-m", *job, "layer=0,final", "measure.throughput=false"], tmp_path)
    assert done.returncode == 0, done.stderr
    (page,) = tmp_path.glob("multirun/*/*/report.html")
    assert f"report   {page}" in done.stdout
    data = data_of(page)
    assert [run["params"]["layer"] for run in data["runs"] if run["kind"] == "model"] == ["0", "final"]
    assert [run["kind"] for run in data["runs"]].count("baseline") == 2
    assert data["missing"] == 0 and data["keys"] == ["layer"]
    assert data["pairs"][0]["items"][0]["texts"][0].startswith(("The cat", "Prices", "Rain"))
    (artifact,) = tmp_path.glob("mlruns/artifacts/*/artifacts/report.html")
    assert artifact.read_bytes() == page.read_bytes()


def test_page_of_a_single_run_that_fails(command: Any, job: list[str], tmp_path: Path) -> None:
    done = command([*job, "layer=0", "postprocess=center", "postprocess.fit=all"], tmp_path)
    assert done.returncode == 1
    (page,) = tmp_path.glob("outputs/*/*/report.html")
    (run,) = [run for run in data_of(page)["runs"] if run["kind"] == "model"]
    assert run["status"] == "FAILED"
    assert "postprocess.fit=all has no sentence that is not scored too" in run["error"]["message"]
