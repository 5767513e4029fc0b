"""`rwkv-sweep warm` with the overrides of a sweep."""

from __future__ import annotations

import pytest
import torch

from rwkv_sweep.cli.verbs import run_verb
from rwkv_sweep.cli.warm import jobs_of
from rwkv_sweep.errors import BAD_INPUT


def test_a_job_for_each_combination() -> None:
    jobs = jobs_of(["device=cuda", "model=random", "precision=fp16,int8", "layer=1,[2,3]"])
    assert [job[2:] for job in jobs] == [
        ["precision=fp16", "layer=1"],
        ["precision=fp16", "layer=[2,3]"],
        ["precision=int8", "layer=1"],
        ["precision=int8", "layer=[2,3]"],
    ]


@pytest.mark.parametrize(
    ("overrides", "part"),
    [
        (["device=cpu", "layer=1"], "device=cpu layer=1 runs on a CPU"),
        (["device=cuda"], "device=cuda device.index=0 is not on this machine"),
        (["layer=[1"], "cannot be read"),
        (["nonsense=1"], "nonsense"),
    ],
)
def test_what_has_no_gpu_or_cannot_be_is_refused(
    overrides: list[str], part: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert run_verb("warm", overrides) == BAD_INPUT
    shown = capsys.readouterr().err.strip()
    assert part in shown and len(shown.splitlines()) == 1
