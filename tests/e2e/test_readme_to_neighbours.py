"""README alone: a sweep on one's own pairs, the run chosen, 10,000 texts, nearest neighbours by sentence-transformers.

Run by make test-sentence-transformers, which has that package in an environment of its own; the same steps with
docs/use.md's own search are in test_documented_commands.py.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.search_path import LIMIT_S, search_path

TEXTS = 10_000


def test_from_a_sweep_to_neighbours(tmp_path: Path, repo_root: Path) -> None:
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    readme = (repo_root / "README.md").read_text(encoding="utf-8")
    (pairs,) = re.findall(r"^    sentence1,sentence2,label\n(?:    .*\n)+", readme, re.MULTILINE)
    (tmp_path / "mine.csv").write_text(re.sub(r"^    ", "", pairs, flags=re.MULTILINE), encoding="utf-8")
    subjects = ("The cat slept", "Rain fell", "Prices rose", "The bank waited")
    texts = [f"{subjects[number % 4]} on day {number // 4}." for number in range(TEXTS)]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    (section,) = re.findall(r"^## From a sweep to vectors\n(.*?)^## ", readme, re.MULTILINE | re.DOTALL)
    commands, python = re.findall(r"(?:^    .*\n|^\n(?=    ))+", section, re.MULTILINE)[:2]
    environment = {**os.environ, "PYTHONPATH": search_path(repo_root), "OMP_NUM_THREADS": "2"}

    def run(arguments: list[str]) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    said = []
    for line in filter(None, map(str.strip, commands.splitlines())):
        words = shlex.split(line)
        said.append(run(words[1:] if words[0] == "python" else ["-m", "rwkv_sweep", *words[1:]]))
    assert len(said) == 3 and re.search(r"10,?000 texts", said[-1])
    hits = ast.literal_eval(run(["-c", re.sub(r"^    ", "", python, flags=re.MULTILINE)]).splitlines()[-1])
    assert hits[0][0]["corpus_id"] == 0 and hits[0][0]["score"] == pytest.approx(1, abs=1e-5)
    assert all(hit["corpus_id"] % 4 == 0 for hit in hits[0]), "neighbours have the same subject"
