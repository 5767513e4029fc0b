"""Which layers a word, a number or a list names, and the message for those that are not there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rwkv_sweep.config.layer_spec import EMBEDDING, layer_name, layers_name, resolve_layers
from rwkv_sweep.errors import UserError

VALID = (
    "valid are 0 to 11 (blocks), final (or 12 or -1), embedding, all, firstN, lastN, or a list of these such as [1,3,5]"
)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (0, (0,)),
        (11, (11,)),
        ("5", (5,)),
        (12, (12,)),
        ("final", (12,)),
        (-1, (12,)),
        ("-1", (12,)),
        ("embedding", (EMBEDDING,)),
        ("all", tuple(range(12))),
        ("first4", (0, 1, 2, 3)),
        ("last4", (8, 9, 10, 11)),
        ("last12", tuple(range(12))),
        ([1, 3, 5], (1, 3, 5)),
        ((5, 1), (5, 1)),
        (["embedding", "first2", "7", -1], (EMBEDDING, 0, 1, 7, 12)),
        (range(1, 6, 2), (1, 3, 5)),
        (np.int64(5), (5,)),
        (np.uint8(12), (12,)),
        (np.arange(3), (0, 1, 2)),
        (np.array([-1, 3]), (12, 3)),
        ([np.int32(1), "final"], (1, 12)),
        (np.array(["first2", "final"]), (0, 1, 12)),
        (torch.tensor([2, 1]), (2, 1)),
    ],
)
def test_layers_named(spec: object, expected: tuple[int, ...]) -> None:
    assert resolve_layers(spec, 12) == expected


@pytest.mark.parametrize(
    "spec",
    [
        13,
        -2,
        "99",
        "last",
        "first0",
        "last13",
        "Final",
        "",
        None,
        True,
        1.5,
        "1.5",
        "first-1",
        np.float64(3),
        np.bool_(True),
    ],
)
def test_layers_that_are_not_there(spec: object) -> None:
    with pytest.raises(UserError) as caught:
        resolve_layers(spec, 12)
    assert str(caught.value) == f"layer={spec} is not a layer of this model: {VALID}"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (range(0), f"layer=[] is an empty list: {VALID}"),
        (np.arange(0), f"layer=[] is an empty list: {VALID}"),
        (np.array([[1, 2]]), f"layer=[1,2] is not a layer of this model: {VALID}"),
        (range(11, 14), f"layer=13 is not a layer of this model: {VALID}"),
        ([], f"layer=[] is an empty list: {VALID}"),
        ([1, 40], f"layer=40 is not a layer of this model: {VALID}"),
        ([[1, 2]], f"layer=[1,2] is not a layer of this model: {VALID}"),
        ([3, 1, 3], "layer=[3,1,3] names layer 3 more than once"),
        (["final", -1], "layer=[final,-1] names layer final more than once"),
        (["first2", 1, "embedding", "embedding"], "layer=[first2,1,embedding,embedding] names layer embedding, 1 more"),
    ],
)
def test_lists_that_make_no_sense(spec: object, message: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve_layers(spec, 12)
    assert str(caught.value).startswith(message)


def test_names() -> None:
    assert [layer_name(index, 12) for index in (EMBEDDING, 0, 11, 12)] == ["embedding", "0", "11", "final"]
    assert layers_name((5,), 12) == "5"
    assert layers_name((1, 3, 12), 12) == "1+3+final"
    assert layers_name(tuple(range(12)), 12) == "all" == layers_name((0, 1), 2)
    assert layers_name(tuple(reversed(range(3))), 3) == "2+1+0"
    assert layers_name((0,), 1) == "0"
