"""Damaged records before report, compare, import and resume: all others are taken, and what is left out is named in one
line. No traceback, and no change of the damaged file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from rwkv_sweep.cli.verbs import run_verb
from rwkv_sweep.tracking import MlflowClient
from tests.damaged_records import CHANGES, SWEEP_CHANGES
from tests.faults.fuzzing import FIELD, VALUE, damaged, quietly
from tests.faults.sweeps import Commands, arguments, records
from tests.made_up_sweeps import SweepWriter

pytestmark = pytest.mark.faults
# A report takes a second, so failures are not made smaller.
briefly = settings(quietly, max_examples=25, phases=(Phase.explicit, Phase.generate))
FILES = ("result.json", "pairs.csv", "latency_ms.csv", ".hydra/config.yaml")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of three runs and a baseline, and one that is much the same to compare it with (`B`)."""
    folder = tmp_path_factory.mktemp("whole")
    for name, ms in (("A", 10.0), ("B", 12.0)):
        sweep = SweepWriter(folder / name, jobs=3)
        for layer in (1, 3, "final"):
            sweep.run(0.4, ms, layer=layer)
        sweep.baseline()
        path = folder / name / "sweep.json"
        config = {"enabled": True, "uri": f"sqlite:///{folder}/x.db", "artifacts": f"{folder}/a", "experiment": "e"}
        path.write_text(json.dumps({**json.loads(path.read_text()), "tracking": config, "id": name * 8}))
    return folder


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once; each import goes into an experiment of its own."""
    return tmp_path_factory.mktemp("database") / "mlflow.db"


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Callable[[], Path]:
    def fresh() -> Path:
        root = tmp_path / "sweep"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(whole / "A", root)
        return root

    return fresh


class Streams:
    """What a command in this process wrote, and its exit code."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def of(self, verb: str, *given: object) -> tuple[int, str, str]:
        self._capsys.readouterr()
        code = run_verb(verb, [str(argument) for argument in given])
        out, err = self._capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err


@pytest.fixture
def streams(capsys: pytest.CaptureFixture[str]) -> Streams:
    return Streams(capsys)


def imported(database: Path, experiment: str) -> list[str]:
    """Names of an experiment's finished runs, without the sweep's own."""
    client = MlflowClient(tracking_uri=f"sqlite:///{database}")
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    runs = client.search_runs([found.experiment_id], max_results=1000)
    assert "RUNNING" not in {run.info.status for run in runs}
    return sorted(run.info.run_name for run in runs if run.data.tags["rwkv_sweep.kind"] != "sweep")


@pytest.mark.parametrize("change", CHANGES)
def test_report_and_compare(copy: Callable[[], Path], whole: Path, streams: Streams, change: str) -> None:
    root = copy()
    path = root / "1" / "result.json"
    content = CHANGES[change](json.loads(path.read_text()))
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = path.read_bytes()
    code, out, err = streams.of("report", root)
    assert code == 0 and f"{root}/report.html" in out.splitlines()
    assert err.count("\n") == 1 and err.startswith(f"counted as failed: {path} is damaged: ")
    rows = (root / "summary.csv").read_text().splitlines()
    assert sum(",FINISHED," in row for row in rows) == 3 and sum(",FAILED," in row for row in rows) == 1
    code, out, err = streams.of("compare", root, whole / "B", "--resamples", 50)
    assert code == 0 and err.count("\n") == 1 and err.startswith(f"left out of A: {path} is damaged: ")
    assert "only B   1: " in out
    assert path.read_bytes() == before


@pytest.mark.parametrize("change", [*list(CHANGES)[::4], "id with a quote", "deep"])
def test_import(copy: Callable[[], Path], database: Path, streams: Streams, change: str) -> None:
    root, experiment = copy(), f"import {change}"
    path = root / "1" / "result.json"
    content = CHANGES[change](json.loads(path.read_text()))
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    given = [root, "--uri", f"sqlite:///{database}", "--experiment", experiment]
    code, out, err = streams.of("import", *given)
    assert code == 2 and out == f"{root}: 3 imported, 0 completed, 0 there already, 1 left out\n"
    assert err.count("\n") == 1 and f"left out: {path} is damaged: " in err
    assert len(imported(database, experiment)) == 3
    code, out, _ = streams.of("import", *given)
    assert code == 2 and out == f"{root}: 0 imported, 0 completed, 3 there already, 1 left out\n"


REFUSED: dict[str, dict[str, Any]] = {
    "a metric's name": {"metrics": {"a//b": 1.0}},
    "a metric's name with a mark": {"metrics": {"a=b": 1.0}},
    "a parameter's name": {"params": {"../x": "1"}},
    "a long name": {"metrics": {"x" * 600: 1.0}},
}
TAKEN: dict[str, dict[str, Any]] = {
    "no model": {"params": {"layer": "1"}, "tags": {"model_fingerprint": "abc"}},
    "odd model": {"params": {"model": "\t:/'\"%.", "precision": "x" * 300}, "tags": {"model_fingerprint": "a'b"}},
    "a key of a newer version": {"schema": 9, "extra": {"deep": [1]}},
    "NaN": {"metrics": {"quality/spearman": float("nan")}},
    "an empty tag": {"tags": {"x": "", "y": "z" * 9000}},
    "long values": {"params": {"dataset.path": "p" * 9000}},
}


@pytest.mark.parametrize("odd", [*REFUSED, *TAKEN])
def test_import_of_what_mlflow_may_refuse(copy: Callable[[], Path], database: Path, streams: Streams, odd: str) -> None:
    root, experiment = copy(), f"odd {odd}"
    path = root / "1" / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **(REFUSED | TAKEN)[odd]}))
    given = [root, "--uri", f"sqlite:///{database}", "--experiment", experiment]
    code, out, err = streams.of("import", *given)
    if odd in TAKEN:
        assert (code, err) == (0, "") and out.startswith(f"{root}: 4 imported, ")
        assert len(imported(database, experiment)) == 4
    else:
        assert code == 2 and out == f"{root}: 3 imported, 0 completed, 0 there already, 1 left out\n"
        assert err.count("\n") == 1 and f"left out: {root}/1: " in err
        imported(database, experiment)
    assert streams.of("report", root)[0] == 0


@pytest.mark.parametrize("change", SWEEP_CHANGES)
def test_a_damaged_sweep(copy: Callable[[], Path], streams: Streams, change: str) -> None:
    """Without its record a sweep is none; others beside it are imported."""
    root = copy()
    path = root / "sweep.json"
    content = SWEEP_CHANGES[change](json.loads(path.read_text()))
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    for verb in ("report", "import"):
        code, out, err = streams.of(verb, root)
        assert (code, out) == (2, "") and err.count("\n") == 1 and err.startswith(f"error: {path} is damaged: ")


@pytest.mark.parametrize("change", [*list(CHANGES)[::6], "id a path"])
def test_resume(commands: Commands, tiny_checkpoint: Path, few_pairs: Path, tmp_path: Path, change: str) -> None:
    """What cannot be read is run again; what lay there is kept."""
    command = [
        *arguments(["layer=0,1"], tiny_checkpoint, few_pairs),
        "measure.latency_pairs=0",
        "hydra.sweep.dir=sweep",
    ]
    assert commands.run([*command, "tracking.enabled=false"], tmp_path).code == 0
    path = tmp_path / "sweep" / "1" / "result.json"
    content = CHANGES[change](json.loads(path.read_text()))
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    before = path.read_bytes()
    ended = commands.run([*command, "tracking.enabled=false", "resume=true"], tmp_path)
    assert ended.code == 0 and "Traceback" not in ended.output, ended.output
    assert ended.output.count("finished before, not run again") == 1
    assert {record["status"] for record in records(tmp_path / "sweep").values()} == {"FINISHED"}
    assert [kept.read_bytes() for kept in (tmp_path / "sweep" / "earlier").glob("*/result.json")] == [before]


# --- fuzzing ------------------------------------------------------------------------------------------------------


@briefly
@given(data=st.data())
def test_any_bits_turned(
    copy: Callable[[], Path], whole: Path, capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    root = copy()
    for name in data.draw(st.lists(st.sampled_from(FILES), min_size=1, max_size=2, unique=True), "files"):
        path = root / data.draw(st.sampled_from(["0", "1", "baselines/word_overlap-1"]), "run") / name
        path.write_bytes(damaged(path.read_bytes(), data))
    check_reading(root, whole, Streams(capsys))


@briefly
@given(data=st.data())
def test_any_values(
    copy: Callable[[], Path], whole: Path, capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    root = copy()
    path = root / data.draw(st.sampled_from(["0", "1", "baselines/word_overlap-1"]), "run") / "result.json"
    record = json.loads(path.read_text())
    for _ in range(data.draw(st.integers(1, 3), "changes")):
        place = data.draw(st.sampled_from([record, record["params"], record["metrics"], record["tags"]]), "place")
        if not isinstance(place, dict) or not place:
            continue
        key = data.draw(st.sampled_from(sorted(place)), "key")
        if data.draw(st.booleans(), "removed"):
            del place[key]
        else:
            place[key] = data.draw(st.one_of(VALUE, FIELD), "value")
        if not all(isinstance(record.get(name), dict) for name in ("params", "metrics", "tags")):
            break
    path.write_text(json.dumps(record))
    check_reading(root, whole, Streams(capsys))


def check_reading(root: Path, whole: Path, streams: Streams) -> None:
    code, _, err = streams.of("report", root)
    assert code == 0 and (root / "report.html").stat().st_size > 0, err
    assert all(line.startswith("counted as failed: ") for line in err.splitlines())
    code, _, err = streams.of("compare", root, whole / "B", "--resamples", 20)
    assert code in (0, 2) and (code == 0 or err.splitlines()[-1].startswith("error: ")), err


@briefly
@given(data=st.data())
def test_imports_of_any_values(
    copy: Callable[[], Path], database: Path, capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    root = copy()
    path = root / "1" / "result.json"
    record = json.loads(path.read_text())
    for name in data.draw(
        st.lists(st.sampled_from(["params", "metrics", "tags", "error", "name"]), min_size=1), "fields"
    ):
        inner = st.dictionaries(st.text(max_size=8), st.one_of(VALUE, FIELD), max_size=3)
        record[name] = data.draw(st.one_of(inner, VALUE), name)
    record["id"] = data.draw(st.uuids(), "id").hex
    path.write_text(json.dumps(record))
    code, out, err = Streams(capsys).of("import", root, "--uri", f"sqlite:///{database}", "--experiment", "fuzz")
    assert code in (0, 2) and out.count("\n") == 1
    assert (code == 2) == ("1 left out" in out) == (err.count("\n") == 1)
