"""What of single pairs on a GPU needs none: their layout, and that a CPU takes another way."""

from __future__ import annotations

import torch

from rwkv_sweep.embedding.cuda_graphs import _spans
from rwkv_sweep.ops.common.cuda_branch import Branch
from rwkv_sweep.ops.common.packing import CHUNK


def test_spans_of_a_pair_and_its_padding_cover_all_and_cross_no_sentence() -> None:
    ends = (CHUNK + 1, CHUNK + 2, 4 * CHUNK)
    flat, earlier = _spans(ends)
    spans = list(zip(flat[::2], flat[1::2], strict=True))
    assert spans[0][0] == 0 and spans[-1][1] == ends[-1]
    assert [start for start, _ in spans[1:]] == [end for _, end in spans[:-1]]
    assert all(0 < end - start <= CHUNK for start, end in spans)
    assert set(ends) <= {end for _, end in spans}
    assert earlier == [0, 1, 0, 0, 1, 2]


def test_a_branch_runs_in_line_on_a_cpu() -> None:
    branch = Branch(torch.device("cpu"))
    done: list[int] = []
    assert branch.run(lambda: done.append(1) or 7) == 7
    assert done == [1]
    branch.join()
