"""What a sweep leaves on disk, with bits turned and any values in it, before report, compare and import: exit 0, or 2
with one line for what was left out; never another exception."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.faults.fuzzing import CELL, FIELD, JSON_TEXT, VALUE, damaged, quietly
from tests.faults.sweeps import Streams

pytestmark = pytest.mark.faults
# A report takes a second, so failures are not made smaller.
briefly = settings(quietly, max_examples=25, phases=(Phase.explicit, Phase.generate))
FILES = ("result.json", "pairs.csv", "latency_ms.csv", ".hydra/config.yaml")
RUN = st.sampled_from(["0", "1", "baselines/word_overlap-1"])
MARK = "0d5c1b6e"
"""In place of a value that is written as text afterwards."""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path in a record must not lead into the repository."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


def check_reading(root: Path, two_sweeps: Path, streams: Streams) -> None:
    code, _, err = streams.of("report", root)
    assert code == 0 and (root / "report.html").stat().st_size > 0, err
    assert all(line.startswith("counted as failed: ") for line in err.splitlines())
    code, _, err = streams.of("compare", root, two_sweeps / "B", "--resamples", 20)
    assert code in (0, 2) and (code == 0 or err.splitlines()[-1].startswith("error: ")), err


def check_import(root: Path, database: Path, streams: Streams, *more: str) -> None:
    """Of a sweep whose own record is whole: as many are left out as have a line that says why."""
    code, out, err = streams.of("import", root, "--uri", f"sqlite:///{database}", "--experiment", "fuzz", *more)
    assert code in (0, 2) and out.count("\n") == 1, err
    assert (code == 2) == ("left out" in out) == (err.count("\n") >= 1), err
    assert all("left out: " in line for line in err.splitlines())


@briefly
@given(data=st.data())
def test_any_bits_turned(
    copy: Callable[[], Path], two_sweeps: Path, database: Path, capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    root = copy()
    for name in data.draw(st.lists(st.sampled_from(FILES), min_size=1, max_size=2, unique=True), "files"):
        path = root / data.draw(RUN, "run") / name
        path.write_bytes(damaged(path.read_bytes(), data))
    check_reading(root, two_sweeps, Streams(capsys))
    check_import(root, database, Streams(capsys))


@briefly
@given(data=st.data())
def test_any_values(
    copy: Callable[[], Path], two_sweeps: Path, database: Path, capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    root = copy()
    path = root / data.draw(RUN, "run") / "result.json"
    record = json.loads(path.read_text())
    for _ in range(data.draw(st.integers(1, 3), "changes")):
        change_value(record, data, st.one_of(VALUE, FIELD))
        if not all(isinstance(record.get(name), dict) for name in ("params", "metrics", "tags")):
            break
    path.write_text(json.dumps(record))
    check_reading(root, two_sweeps, Streams(capsys))
    check_import(root, database, Streams(capsys))


def change_value(record: dict[str, Any], data: st.DataObject, values: st.SearchStrategy[Any]) -> None:
    """Remove a field, or an item of one, or give it another value."""
    inner = [value for value in record.values() if isinstance(value, dict) and value]
    place = data.draw(st.sampled_from([record, *inner]), "place")
    key = data.draw(st.sampled_from(sorted(place)), "key")
    if data.draw(st.booleans(), "removed"):
        del place[key]
    else:
        place[key] = deepcopy(data.draw(values, "value"))  # the strategy's own, which a further change must not change


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
    check_import(root, database, Streams(capsys))


@briefly
@given(data=st.data())
def test_records_as_no_library_writes_them(
    copy: Callable[[], Path], two_sweeps: Path, database: Path, capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    """Integers of thousands of digits, nesting beyond the stack, half a character, a name twice."""
    root = copy()
    path = root / data.draw(RUN, "run") / "result.json"
    record = json.loads(path.read_text())
    change_value(record, data, st.just(MARK))
    text = json.dumps(record).replace(f'"{MARK}"', data.draw(JSON_TEXT, "text"))
    if data.draw(st.booleans(), "twice"):
        text = f"{text[:-1]}, {json.dumps(data.draw(st.sampled_from(sorted(record)), 'name'))}: 1}}"
    path.write_text(text, encoding="utf-8")
    check_reading(root, two_sweeps, Streams(capsys))
    check_import(root, database, Streams(capsys))


@briefly
@given(data=st.data())
def test_any_sweep_json(
    copy: Callable[[], Path], two_sweeps: Path, database: Path, capsys: pytest.CaptureFixture[str], data: st.DataObject
) -> None:
    """One line where it cannot be read; what it says of folders and servers is never followed elsewhere."""
    root = copy()
    path = root / "sweep.json"
    record = json.loads(path.read_text())
    record |= {"folders": ["0", "1", "2"], "cwd": str(root)}
    change_value(record, data, st.one_of(VALUE, FIELD, st.just(MARK)))
    path.write_text(json.dumps(record).replace(f'"{MARK}"', data.draw(JSON_TEXT, "text")), encoding="utf-8")
    before, streams = path.read_bytes(), Streams(capsys)
    given_uri = ["--uri", f"sqlite:///{database}"] if data.draw(st.booleans(), "uri") else []
    reads = {"report": [root], "compare": [root, two_sweeps / "B", "--resamples", 20], "import": [root, *given_uri]}
    for verb, parts in reads.items():
        code, out, err = streams.of(verb, *parts)
        assert code in (0, 2), err
        if code == 2:
            assert out == "" and err.count("\n") == 1 and err.startswith("error: "), (out, err)
    assert path.read_bytes() == before


@briefly
@given(
    name=st.sampled_from(["pairs.csv", "latency_ms.csv"]),
    header=st.booleans(),
    rows=st.lists(st.lists(CELL, min_size=1, max_size=5), max_size=14),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    run=RUN,
)
def test_any_scores_and_samples(
    copy: Callable[[], Path],
    two_sweeps: Path,
    database: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    header: bool,
    rows: list[list[str]],
    end: str,
    run: str,
) -> None:
    root = copy()
    path = root / run / name
    first = path.read_text(encoding="utf-8").splitlines()[:1] if header else []
    path.write_text(end.join([*first, *(",".join(row) for row in rows)]), encoding="utf-8", newline="")
    check_reading(root, two_sweeps, Streams(capsys))
    check_import(root, database, Streams(capsys))
