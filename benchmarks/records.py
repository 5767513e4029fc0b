"""The documentation's tables of measurements, kept equal to the records they are drawn from.

A page holds

    <!-- record: 2026-11-27-h100-quantization.json -->
    (command, machine and date, and the table: written by this program)
    <!-- end of record -->

for a file of benchmarks/results. With `--check` nothing is written; it fails, naming the place, where a page differs
from its records, a record is missing, or docs/benchmarks.md has a table that no record stands behind.

Command: python -m benchmarks.records [--check]
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.tables import TABLES, Record

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
RECORDED = ROOT / "docs" / "benchmarks.md"
"""The page on which every table must have a record."""
BLOCK = re.compile(r"<!-- record: (?P<file>\S+) -->\n(?P<body>.*?)<!-- end of record -->", re.DOTALL)


def machine(record: Record) -> str:
    """Device and versions, as the record has them."""
    known = {**record.get("versions", {}), **record.get("device", {}), **record.get("machine", {})}
    versions = [f"torch {record.get('torch', known.get('torch', '?'))}"]
    versions += [f"{name} {known[name]}" for name in ("triton", "cuda") if name in known]
    return ", ".join([str(known.get("device_name", "?")), *versions])


def drawn(file: str, results: Path = RESULTS) -> str:
    """What stands between the two marks.

    Raises:
        ValueError: there is no such record, or no table for its kind.
    """
    path = results / file
    if not path.is_file():
        raise ValueError(f"{file} is not in {results}")
    record = json.loads(path.read_text(encoding="utf-8"))
    if record.get("benchmark") not in TABLES:
        raise ValueError(f"{file}: benchmark is {record.get('benchmark')!r}, and must be one of {', '.join(TABLES)}")
    return f"`{record['command']}`, {machine(record)}, {record['date']}\n\n{TABLES[record['benchmark']](record)}\n"


def rewritten(text: str, results: Path = RESULTS) -> str:
    """A page with each block drawn anew."""
    return BLOCK.sub(
        lambda block: f"<!-- record: {block['file']} -->\n{drawn(block['file'], results)}<!-- end of record -->", text
    )


def tables_without_record(text: str) -> list[int]:
    """Lines, from 1, at which a table begins outside of all blocks."""
    blanked = BLOCK.sub(lambda block: "\n" * block[0].count("\n"), text)
    lines = blanked.splitlines()
    return [
        number
        for number, line in enumerate(lines, 1)
        if line.startswith("|") and not (number > 1 and lines[number - 2].startswith("|"))
    ]


def faults(page: Path, results: Path = RESULTS) -> Iterator[str]:
    """What is wrong with a page, a line each."""
    text = page.read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        place = f"{page.name}:{text.count(chr(10), 0, block.start()) + 1}"
        try:
            if drawn(block["file"], results) != block["body"]:
                yield f"{place} differs from {block['file']}: python -m benchmarks.records writes it anew"
        except ValueError as error:
            yield f"{place}: {error}"
    if page.name == RECORDED.name:
        yield from (f"{page.name}:{line} is a table without a record" for line in tables_without_record(text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page differs")
    args = parser.parse_args()
    pages = sorted((ROOT / "docs").glob("*.md"))
    if not args.check:
        for page in pages:
            text = page.read_text(encoding="utf-8")
            if (new := rewritten(text)) != text:
                page.write_text(new, encoding="utf-8")
                print(f"{page.name} written")
    wrong = [fault for page in pages for fault in faults(page)]
    print(*wrong, sep="\n", end="\n" if wrong else "", file=sys.stderr)
    if wrong:
        sys.exit(1)


if __name__ == "__main__":
    main()
