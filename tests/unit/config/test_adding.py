"""What docs/adding.md says a pooling, a model and a dataset are, is what they are."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
import torch

from rwkv_sweep.embedding import pooling
from rwkv_sweep.embedding.pooling import PooledTokens
from rwkv_sweep.ops.common.packing import Packed


@pytest.fixture(scope="module")
def text(repo_root: Path) -> str:
    return (repo_root / "docs" / "adding.md").read_text(encoding="utf-8")


def test_the_pooling_of_the_example(text: str) -> None:
    (code,) = re.findall(r"^    def rms.*?(?=\n\n\S)", text, re.DOTALL | re.MULTILINE)
    names = dict(vars(pooling))
    exec(textwrap.dedent(code), names)
    h_TD = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    actual_BD = names["rms"](h_TD, PooledTokens(Packed.of([2, 3, 4])))
    expected = [part.square().mean(0).sqrt() for part in h_TD.split([2, 3, 4])]
    torch.testing.assert_close(actual_BD, torch.stack(expected))


def test_the_options_it_names_are_there(text: str, repo_root: Path) -> None:
    for group, name in re.findall(r"conf/(\w+)/(\w+)\.yaml", text):
        assert (repo_root / "conf" / group / f"{name}.yaml").is_file()
    for name in ("embedded", "embedded_hard", "mrpc", "mrpc_study", "stsb", "sick"):
        assert f"`{name}`" in text and (repo_root / "conf" / "dataset" / f"{name}.yaml").is_file()
    for name in ("POOLS", "POOLINGS", "AGGREGATIONS"):
        assert name in text
        assert hasattr(pooling, name) or name in (repo_root / "rwkv_sweep" / "config" / "schema.py").read_text(
            encoding="utf-8"
        )
