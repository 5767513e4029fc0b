"""Which layers are run through to compile the kernels of others."""

from __future__ import annotations

from itertools import chain, combinations

import pytest

from rwkv_sweep.profiling.kernels import BLOCKS, stand_ins

LARGEST = 6


def kinds(layers: tuple[int, ...] | list[int], blocks: int) -> set[tuple[bool, bool, bool]]:
    """Of each block that a forward for `layers` runs: whether it is the first, the last, and asked for."""
    count = blocks if blocks in layers else max(layers) + 1
    return {(index == 0, index == count - 1, index in layers) for index in range(count)}


@pytest.mark.parametrize("blocks", range(1, LARGEST + 1))
def test_stand_ins_have_every_kind_of_block(blocks: int) -> None:
    numbers = range(-1, blocks + 1)
    for layers in chain.from_iterable(combinations(numbers, count) for count in range(1, blocks + 3)):
        chosen = stand_ins(layers, blocks)
        assert kinds(layers, blocks) <= kinds(chosen, blocks), (layers, chosen)
        for outside in (-1, blocks):  # what is no block
            assert (outside in layers) == (outside in chosen)
        assert len(chosen) <= BLOCKS + 1


def test_few_blocks_are_run_but_for_the_embedding_behind_all() -> None:
    assert max(stand_ins([3, 17, 23], 24)) == BLOCKS - 1
    assert stand_ins(range(25), 24) == [0, 1, 23, 24]
