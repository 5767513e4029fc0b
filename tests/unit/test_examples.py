"""Every notebook in examples/ runs from its first cell to its last, and shows what its text says."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.ipynb"))


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each notebook leaves behind, by its name, and under `printed` what each cell prints; its cells run in an
    empty folder."""
    actual: dict[str, dict[str, Any]] = {}
    with pytest.MonkeyPatch.context() as patch:
        for path in NOTEBOOKS:
            patch.chdir(tmp_path_factory.mktemp(path.stem))
            names: dict[str, Any] = {}
            printed = []
            for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
                if cell["cell_type"] == "code":
                    with contextlib.redirect_stdout(io.StringIO()) as out:
                        exec(compile("".join(cell["source"]), f"{path.name}, cell {number}", "exec"), names)
                    printed.append(out.getvalue())
            actual[path.name] = {**names, "printed": printed}
    return actual


@pytest.fixture
def walk(left: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return left["sentence_embeddings.ipynb"]


def test_neighbours_are_what_was_meant(walk: dict[str, Any]) -> None:
    """Deep layers find more of them than shallow ones, and most."""
    assert len(walk["correct"]) == 14 and walk["encoder"].num_blocks == 12
    deep = [walk["correct"][layer] for layer in (9, 10, 11, "final")]
    shallow = [walk["correct"][layer] for layer in range(6)]
    assert min(deep) > max(shallow) and min(deep) >= 3
    nearest, cosines = walk["neighbours"](walk["encoder"])
    meant = [note in right for note, right in zip(nearest, walk["wanted"].values(), strict=True)]
    assert sum(meant) == walk["correct"][10] and (np.abs(cosines) <= 1).all()
    assert walk["printed"][1].count("(not what was meant)") == meant.count(False)


def test_a_layer_is_chosen_on_some_pairs_and_checked_on_others(walk: dict[str, Any]) -> None:
    choose, check = walk["to_choose"], walk["to_check"]
    assert len(choose) == len(check) == 280
    assert walk["best"] == max(walk["chosen_by"], key=walk["chosen_by"].get) and walk["best"] in (8, 9, 10, 11, "final")
    assert walk["result"].pairs == 280 and 0.1 < walk["result"].spearman < 0.3
    assert walk["ahead"].lo > 0, "on these pairs it is ahead of word overlap"


def test_nothing_is_fitted_on_the_sentences_of_a_call(walk: dict[str, Any]) -> None:
    np.testing.assert_allclose(walk["alone"], walk["together"], atol=1e-4 * np.abs(walk["alone"]).max())
    assert walk["fitted"].config.postprocess.name == "center" and walk["fitted"].config.pooling.name == "idf"
    nearest, _ = walk["neighbours"](walk["fitted"])
    assert sum(note in right for note, right in zip(nearest, walk["wanted"].values(), strict=True)) >= 4
    assert walk["several"].config.dataset.splits == ["all[50%:]"]
    assert walk["few"].shape == (5, 32) and walk["differing"].shape == (5, 12)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_outputs_are_those_of_the_cells(path: Path, left: dict[str, dict[str, Any]]) -> None:
    """Line by line but for their figures, and for neighbours and layers that a rounding may choose otherwise."""
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    for number, (cell, printed) in enumerate(zip(cells, left[path.name]["printed"], strict=True)):
        kept = "".join(
            line for output in cell["outputs"] if output["output_type"] == "stream" for line in output["text"]
        )
        advice = f"cell {number} prints something else: run the notebook and save it with its outputs"
        assert len(kept.splitlines()) == len(printed.splitlines()), advice
        for old, new in zip(kept.splitlines(), printed.splitlines(), strict=True):
            assert form(old) == form(new), advice
        assert cell["execution_count"] == number + 1, "run all cells in order"


def form(line: str) -> str:
    """A line without its figures, marks, and what follows a cosine."""
    line = re.sub(r"^( +)-?\d\.\d\d .*", r"\1cosine", line.rstrip())
    return re.sub(r"[\d.e+-]+", "0", line.replace("<- chosen", "")).rstrip()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_whole_and_name_no_path_of_a_machine(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4 and len({cell["id"] for cell in content["cells"]}) == len(content["cells"])
    assert not re.search(r"/(home|root|work|Users|tmp)/", path.read_text(encoding="utf-8"))
