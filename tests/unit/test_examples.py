"""Every notebook in examples/ runs from its first cell to its last, and shows what its text says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.ipynb"))


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each notebook leaves behind, by its name; its cells run in an empty folder."""
    found: dict[str, dict[str, Any]] = {}
    with pytest.MonkeyPatch.context() as patch:
        for path in NOTEBOOKS:
            patch.chdir(tmp_path_factory.mktemp(path.stem))
            found[path.name] = {}
            for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
                if cell["cell_type"] == "code":
                    exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), found[path.name])
    return found


def test_sentence_embeddings(left: dict[str, dict[str, Any]]) -> None:
    names = left["sentence_embeddings.ipynb"]
    assert names["every"].shape == (12, 3, 256) and names["shallow"].shape == (3, 256)
    assert len(names["spearman"]) == 14 and names["spearman"][names["best"]] == max(names["spearman"].values())
    assert names["concat"].encode(names["sentences"]).shape == (3, 768)
    similarity = names["encoder"].similarity(*[names["encoder"].encode(names["sentences"])] * 2)
    assert similarity[0, 1] > similarity[0, 2], "the two sentences on a cat are the closest"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_whole_and_name_no_path_of_a_machine(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4 and len({cell["id"] for cell in content["cells"]}) == len(content["cells"])
    assert "/home/" not in path.read_text(encoding="utf-8")
