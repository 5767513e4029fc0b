"""Tables of measurements in the documentation are those of their records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.records import RESULTS, ROOT, drawn, faults, rewritten, tables_without_record

RECORD = {
    "benchmark": "forward_cpu",
    "command": "python -m benchmarks.forward_cpu",
    "date": "2026-01-01",
    "machine": {"device_name": "a processor"},
    "torch": "2.13.0",
    "tokens_per_s": {"GEMM only, oneDNN": 2000.0, "rwkv_sweep": 1500.0},
}
EMPTY = "Text.\n\n<!-- record: one.json -->\n<!-- end of record -->\n\nMore.\n"


@pytest.fixture
def results(tmp_path: Path) -> Path:
    (folder := tmp_path / "results").mkdir()
    (folder / "one.json").write_text(json.dumps(RECORD))
    return folder


def test_a_block_is_drawn_from_its_record(results: Path) -> None:
    text = rewritten(EMPTY, results)
    assert "`python -m benchmarks.forward_cpu`, a processor, torch 2.13.0, 2026-01-01" in text
    assert "| rwkv_sweep | 1,500 | 75.0% |" in text and text.startswith("Text.") and text.endswith("More.\n")
    assert rewritten(text, results) == text


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (("1,500", "1,600"), "page.md:3 differs from one.json"),
        (("75.0%", "76.0%"), "page.md:3 differs from one.json"),
        (("2026-01-01", "2026-01-02"), "page.md:3 differs from one.json"),
        (("one.json", "two.json"), "page.md:3: two.json is not in "),
    ],
)
def test_another_figure_is_a_fault(results: Path, tmp_path: Path, change: tuple[str, str], fault: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text := rewritten(EMPTY, results))
    assert list(faults(page, results)) == []
    page.write_text(text.replace(*change))
    (only,) = faults(page, results)
    assert only.startswith(fault)


def test_a_record_of_no_known_benchmark_is_refused(results: Path) -> None:
    (results / "one.json").write_text(json.dumps(RECORD | {"benchmark": "other"}))
    with pytest.raises(ValueError, match=r"one\.json: benchmark is 'other', and must be one of quantization, "):
        drawn("one.json", results)


def test_tables_outside_of_blocks_are_found(results: Path) -> None:
    text = rewritten(EMPTY, results) + "\n| a | b |\n| --- | --- |\n| 1 | 2 |\n"
    assert tables_without_record(text) == [text.splitlines().index("| a | b |") + 1]
    assert tables_without_record(rewritten(EMPTY, results)) == []


def test_the_pages_equal_the_records() -> None:
    assert [fault for page in sorted((ROOT / "docs").glob("*.md")) for fault in faults(page)] == []


def test_every_record_stands_on_a_page() -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
    records = sorted(path.name for path in RESULTS.glob("*.json"))
    assert records and [name for name in records if f"<!-- record: {name} -->" not in pages] == []
