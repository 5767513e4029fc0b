"""What the fuzzing tests share: how long they look, cells and values that make trouble, damaged files."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from rwkv_sweep.errors import UserError

quietly = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)

ODD_NUMBERS = [
    *(
        "1_0",
        "0x1",
        " 1 ",
        "+1.",
        ".5",
        "1e-400",
        "5e-324",
        "1e308",
        "-1.7e308",
        "1,5",
        "True",
        "1e",
        "\u0661",
        "\uff11",
    ),
    *("9" * 309, "9" * 400, "9" * 5000, "0." + "0" * 400 + "1"),
]
"""Numbers as text that some program reads and another does not, or that no float holds."""

CELL = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["", " ", "NA", "nan", "inf", "1e400", "0", "1", "-1", "0.5", '"', "\t", "\r", "\x00", "\ud7ff", "a\nb"]
    ),
    st.sampled_from(ODD_NUMBERS),
)

FIELD = st.sampled_from(
    [
        *(10**399, -(10**399), 2**53 + 1, 1e308, -0.0, float("nan"), float("-inf"), 1e-320),
        *("x" * 5000, "=cmd()", "<script>", "</script>", "a/../b", "${x}", "%s", "'", "`", "\u202e", "0" * 400),
        *(["x"] * 1000, {"a": {"b": {"c": []}}}, [[[[[[]]]]]]),
    ]
)
"""What a field of a record, a config or a row of JSON may hold: huge and tiny numbers, long texts, markup, nests."""

VALUE = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), CELL, st.sampled_from([10**400, -(10**309), 2**53 + 1])
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(CELL, inner, max_size=2)),
    max_leaves=4,
)


JSON_TEXT = st.one_of(
    st.sampled_from(
        ["9" * 5000, "-" + "9" * 400, "1e400", "-Infinity", "NaN", "0.", '"\\ud800"', '{"a": 1, "a": 2}', ""]
    ),
    st.sampled_from(["[" * 50_000 + "]" * 50_000, '{"a":' * 50_000 + "1" + "}" * 50_000, "[" * 100_000]),
    CELL.map(json.dumps),
    CELL,
)
"""A value within a file of JSON as text, which may be none."""

SIZE = st.one_of(st.integers(-1, 64), st.sampled_from([10**5, 2**24, 2**31, 10**18, 2**63, 10**400]), VALUE)
"""A size in a model's config.json: possible, far too large, or of another type."""

ODD_TENSOR = st.sampled_from(
    [
        lambda tensor: tensor[:0],
        lambda tensor: tensor[None],
        lambda tensor: tensor.to_sparse(),
        lambda tensor: tensor.to("meta"),
        lambda tensor: tensor.to(torch.int8),
        lambda tensor: tensor.to(torch.complex64),
        lambda tensor: tensor.flatten()[:1].expand(2**31, 2**20),
        lambda tensor: tensor.flatten()[0],
        lambda tensor: tensor * float("nan"),
        lambda tensor: [tensor],
        lambda tensor: None,
    ]
)
"""What a tensor of a checkpoint becomes."""

ODD_NAME = st.one_of(
    st.sampled_from(["module.", "_orig_mod.", "model.", "blocks.7.", "rwkv."]).map(lambda prefix: prefix.__add__),
    st.sampled_from(
        [lambda name: 0, lambda name: name[1:], lambda name: name.replace("0", "9" * 5000), lambda name: b""]
    ),
)
"""What a tensor's name becomes."""


def one_line_or(read: Callable[[], Any]) -> Any:
    """What `read` gives; None if it refuses with a UserError of one line."""
    try:
        return read()
    except UserError as error:
        assert str(error).strip() and "\n" not in str(error)
        return None


def nested(depth: int) -> str:
    """JSON so deep that a reader that calls itself comes to no end."""
    return "[" * depth + "]" * depth


def damaged(content: bytes, data: st.DataObject) -> bytes:
    """Cut off, or with a few bits turned."""
    if data.draw(st.booleans(), "cut"):
        return content[: data.draw(st.integers(0, len(content) - 1), "length")]
    changed = bytearray(content)
    # Half of the bits in the first bytes, where a header is.
    place = st.one_of(st.integers(0, min(2000, len(content) - 1)), st.integers(0, len(content) - 1))
    for position in data.draw(st.lists(place, min_size=1, max_size=4), "bytes"):
        changed[position] ^= 1 << data.draw(st.integers(0, 7), "bit")
    return bytes(changed)
