"""Which linear layers `precision.blocks` and `precision.modules` name."""

from __future__ import annotations

import pytest

from rwkv_sweep.config.schema import PrecisionConfig
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.quantization.selection import (
    KINDS,
    check_selection,
    left_alone,
    place,
    resolve_blocks,
    resolve_modules,
)


@pytest.mark.parametrize(
    ("spec", "blocks"),
    [
        ("all", range(5)),
        ("none", []),
        (3, [3]),
        ("3", [3]),
        ("first2", [0, 1]),
        ("last2", [3, 4]),
        ("first5", range(5)),
        ("last5", range(5)),
        ("first_half", [0, 1]),
        ("last_half", [2, 3, 4]),
        ([0, "last1", "0"], [0, 4]),
    ],
)
def test_blocks(spec: object, blocks: list[int]) -> None:
    assert resolve_blocks(spec, 5) == frozenset(blocks)


@pytest.mark.parametrize(
    ("spec", "shown"),
    [
        (5, "5"),
        (-1, "-1"),
        ("first6", "first6"),
        ("last0", "last0"),
        ("half", "half"),
        (True, "True"),
        (["all", 9], "[all,9]"),
    ],
)
def test_blocks_that_are_not_there(spec: object, shown: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve_blocks(spec, 5)
    assert str(caught.value) == (
        f"precision.blocks={shown} is not a choice of this model's blocks: valid are 0 to 4, all, none, firstN, lastN, "
        "first_half, last_half, or a list of these such as [0,1,last2]"
    )


@pytest.mark.parametrize(
    ("spec", "kinds"),
    [
        ("all", KINDS),
        ("time_mix", [kind for kind in KINDS if kind.startswith("time_mix")]),
        ("key", ["time_mix.key", "channel_mix.key"]),
        ("channel_mix.key", ["channel_mix.key"]),
        (["gate", "channel_mix.value"], ["time_mix.gate", "channel_mix.value"]),
    ],
)
def test_modules(spec: object, kinds: list[str]) -> None:
    assert resolve_modules(spec) == frozenset(kinds)


@pytest.mark.parametrize("spec", ["time_mix.nothing", "attention", "mix", "ke"])
def test_modules_that_are_not_there(spec: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve_modules(spec)
    assert str(caught.value) == (
        f"precision.modules={spec} is not a choice of modules: valid are all, time_mix, channel_mix, receptance, key, "
        "value, gate, output, qualified as channel_mix.key, or a list of these"
    )
    with pytest.raises(UserError, match=r"precision\.modules=\[\] is empty"):
        resolve_modules([])


def test_place() -> None:
    assert place("blocks.11.feed_forward.value") == (11, "channel_mix.value")
    assert place("blocks.0.attention.output") == (0, "time_mix.output")
    assert place("blocks.0.attention.ln_x") is None and place("head") is None


def test_a_choice_without_quantization_is_refused() -> None:
    check_selection(PrecisionConfig("fp16", "float16"), 12)
    with pytest.raises(UserError, match=r"=first6 with precision\.quantization=none, .*: valid is all$"):
        check_selection(PrecisionConfig("fp16", "float16", blocks="first6"), 12)
    with pytest.raises(UserError, match=r"precision\.modules=\[key,gate\] with precision\.quantization=none"):
        check_selection(PrecisionConfig("fp16", "float16", modules=["key", "gate"]), 12)


def test_modules_that_the_model_lacks_are_refused() -> None:
    gate = PrecisionConfig("nf4", "float32", "nf4", modules=["gate"])
    check_selection(gate, 12)
    check_selection(gate, 12, lacking=("time_mix.key",))
    with pytest.raises(UserError, match=r"modules=\[gate\] names no linear layer of this model"):
        check_selection(gate, 12, lacking=("time_mix.gate",))


def test_reasons() -> None:
    precision = PrecisionConfig("nf4", "float32", "nf4", blocks=[1], modules="time_mix")
    assert left_alone("blocks.1.attention.key", precision, 3) is None
    assert left_alone("blocks.0.attention.key", precision, 3) == "block not among precision.blocks=[1]"
    assert left_alone("blocks.1.feed_forward.key", precision, 3) == "not among precision.modules=time_mix"
    assert left_alone("head", precision, 3) == "not a linear layer of a block"
    plain = PrecisionConfig("fp16", "float16")
    assert left_alone("blocks.1.attention.key", plain, 3) == "nothing is quantized in this precision"
