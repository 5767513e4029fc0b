"""The config group `configuration`, and the message for its old name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from rwkv_sweep import Encoder
from rwkv_sweep.config.error_messages import is_bad_input, one_line
from rwkv_sweep.config.hydra_store import conf_dir, register_schemas
from rwkv_sweep.config.schema import RunConfig
from rwkv_sweep.config.validation import run_config
from rwkv_sweep.errors import UserError

OPTIONS = sorted(path.stem for path in (conf_dir() / "configuration").glob("*.yaml"))
VALID = f"the group arm is called configuration now; valid is configuration=OPTION, with one of {', '.join(OPTIONS)}"


@pytest.fixture(autouse=True)
def schemas() -> Iterator[None]:
    register_schemas()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield


def composed(*overrides: str) -> RunConfig:
    return run_config(compose("config", list(overrides)))


def message_of(*overrides: str) -> str:
    with pytest.raises(Exception) as caught:
        composed(*overrides)
    assert is_bad_input(caught.value)
    return one_line(caught.value)


@pytest.mark.parametrize(
    ("overrides", "layer", "aggregation"),
    [
        ((), "final", "none"),
        (("configuration=all_mean",), "all", "mean"),
        (("configuration=last4_concat",), "last4", "concat"),
        (("configuration=layer_5",), 5, "none"),
        # What is given beside it wins, whatever the order.
        (("configuration=all_mean", "layer=3"), 3, "mean"),
        (("aggregation=max", "configuration=all_mean"), "all", "max"),
        # A preset's choice, and another in its place.
        (("+experiment=aggregation_overhead",), "final", "none"),
        (("+experiment=aggregation_overhead", "configuration=all_concat"), "all", "concat"),
    ],
)
def test_a_configuration_is_layers_with_their_aggregation(
    overrides: tuple[str, ...], layer: int | str, aggregation: str
) -> None:
    run = composed(*overrides)
    assert (run.layer, run.aggregation.name) == (layer, aggregation)


@pytest.mark.parametrize("option", OPTIONS)
def test_every_configuration_composes(option: str) -> None:
    assert composed(f"configuration={option}")


@pytest.mark.parametrize("option", ["final", "all_mean", "layer_5"])
@pytest.mark.parametrize("form", ["arm={}", "+arm={}", "++arm={}", "arm@x={}", "+arm@_global_={}"])
def test_the_old_name_is_refused_with_the_new_one(form: str, option: str) -> None:
    assert message_of(form.format(option)) == f"arm={option}: {VALID}"


@pytest.mark.parametrize(
    ("override", "given"),
    [("arm=3", "arm=3"), ("~arm", "arm"), ("~arm=final", "arm"), ("+arm.x=3", "arm={'x': 3}"), ("+arm=null", "arm")],
)
def test_the_old_name_is_refused_in_any_form(override: str, given: str) -> None:
    assert message_of(override) == f"{given}: {VALID}"


def test_the_old_name_is_refused_beside_a_preset() -> None:
    assert message_of("+experiment=aggregation_overhead", "arm=final") == f"arm=final: {VALID}"


@pytest.mark.parametrize(
    ("preset", "given"),
    [("defaults:\n  - /arm: final\n", "arm=final"), ("arm: final\n", "arm")],
    ids=["as a group", "as a key"],
)
def test_the_old_name_is_refused_in_a_preset_of_the_user(preset: str, given: str, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{preset}")
    assert message_of("+experiment=mine", f"hydra.searchpath=[file://{tmp_path}]") == f"{given}: {VALID}"


def test_the_old_name_is_refused_by_an_encoder() -> None:
    with pytest.raises(UserError, match=r"^arm=all_mean: the group arm is called configuration now"):
        Encoder.from_config("arm=all_mean")


@pytest.mark.parametrize("override", ["model.arm=3", "+model.arm=3"])
def test_a_key_of_that_name_elsewhere_is_an_unknown_key(override: str) -> None:
    assert message_of(override).startswith("model.arm is not a key: valid are ")


@pytest.mark.parametrize("chosen", ["configuration=all_mean", "precision=fp16", "model=random"])
def test_a_plus_before_a_group_that_has_an_option(chosen: str) -> None:
    assert message_of(f"+{chosen}") == (
        f"+{chosen} adds a second option to a group that has one: valid is {chosen}, without the +"
    )
