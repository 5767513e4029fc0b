"""How packed sentences are cut up for the kernels."""

from __future__ import annotations

import pytest

from rwkv_sweep.ops.common.packing import Packed


def test_first_tokens_are_marked() -> None:
    assert Packed.of([1, 3, 2]).first_T.tolist() == [1, 1, 0, 0, 1, 0]
    assert Packed.of([]).first_T.tolist() == []


@pytest.mark.parametrize("size", [1, 2, 8, 100])
def test_spans_cover_each_sentence_in_order_and_cross_none(size: int) -> None:
    lengths = [1, 7, 8, 9, 17, 2, 40]
    packed = Packed.of(lengths)
    spans = packed.spans(size).tolist()
    assert [start for start, _ in spans[1:]] == [end for _, end in spans[:-1]]
    assert spans[0][0] == 0 and spans[-1][1] == sum(lengths)
    assert all(0 < end - start <= size for start, end in spans)
    assert set(packed.starts_B.tolist()) <= {start for start, _ in spans}
    assert len(spans) == sum(-(-length // size) for length in lengths)
    offsets = packed.span_offsets(size).tolist()
    assert [spans[at][0] for at in offsets[:-1]] == packed.starts_B.tolist() and offsets[-1] == len(spans)
    earlier = packed.earlier(size).tolist()
    assert [at - count for at, count in enumerate(earlier)] == [
        max(o for o in offsets[:-1] if o <= at) for at in range(len(spans))
    ]


def test_spans_of_a_sentence_differ_by_at_most_one_token() -> None:
    (sizes,) = [[end - start for start, end in Packed.of([26]).spans(8).tolist()]]
    assert sorted(sizes) == [6, 6, 7, 7]
