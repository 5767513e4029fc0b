"""Hydra's and OmegaConf's errors in one line that names what would be valid."""

from __future__ import annotations

import dataclasses
import difflib
import re
import traceback
import typing
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from rwkv_sweep.config import schema as schema_module
from rwkv_sweep.config.hydra_store import conf_dir
from rwkv_sweep.config.launchers import missing_plugin
from rwkv_sweep.config.renamed import renamed_group
from rwkv_sweep.errors import UserError

_NO_OPTION = "Config group override must be"
_UNKNOWN_KEY = re.compile(r"Key '(?P<key>[^']+)' not in '(?P<schema>\w+)'")
_WRONG_TYPE = re.compile(
    r"Value '(?P<value>.*)' (?:of type '.*' could not be converted to|is not a valid) (?P<type>\w+)"
)
_LAUNCHER = re.compile(r"Could not (?:find|load) 'hydra/launcher/(?P<name>\w+)'")
_CHOSEN_TWICE = re.compile(
    r"Multiple values for (?P<group>\S+)\. To override a value use 'override \S+ (?P<option>\S+)'"
)
_OVERRIDE = re.compile(r"Error merging override (.+)")
_IN_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
_FULL_KEY = re.compile(r"full_key: (?P<key>\S+)")


def is_bad_input(error: Exception) -> bool:
    """Whether an error is about what was asked for, and not a flaw of the program."""
    # Hydra has a plain ValueError for a group that is given a number or null, such as precision=8.
    # And one for two modes at once, such as -m with --cfg.
    plain = isinstance(error, ValueError) and str(error).startswith((_NO_OPTION, "Only one of --"))
    return plain or isinstance(error, (HydraException, OmegaConfBaseException, UserError))


def one_line(error: Exception) -> str:
    """What went wrong, with key and value, and what would be valid; without Hydra's search paths and hints."""
    if (launcher := _LAUNCHER.search(str(error))) and (missing := missing_plugin(launcher["name"])):
        return missing
    if renamed := renamed_group(str(error)):
        return renamed
    if refused := _no_option(error):
        return refused
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        valid = ", ".join(sorted(error.options))
        return f"{group}={option} is not known: valid are {valid}"
    if twice := _CHOSEN_TWICE.search(str(error)):
        group, option = twice["group"], twice["option"]
        return (
            f"+{group}={option} adds a second option to a group that has one: valid is {group}={option}, without the +"
        )
    if isinstance(error, OverrideParseException):
        reason = str(error.message).splitlines()[0]
        return (
            f"{error.override} cannot be read ({reason}): valid is key=value; a value with brackets, commas, colons or "
            "spaces needs double quotes within the shell's single ones, such as 'postprocess.fit=\"train[:1000]\"'"
        )
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
    text = "\n".join(str(part) for part in (error, cause) if part)
    return _unknown_key(text) or _wrong_type(text) or _wrong_kind(text) or _joined(text)


def _no_option(error: Exception) -> str | None:
    """For a group that is given a number, true, false or null. Hydra's message names neither; its frame has the
    override."""
    if not (isinstance(error, ValueError) and str(error).startswith(_NO_OPTION)):
        return None
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    override = frames[-1].f_locals.get("override") if frames else None
    if not isinstance(override, Override):
        return None
    group = override.key_or_group
    # Hydra and its plugins add options of their own to the groups below hydra.
    files = [] if group.startswith("hydra/") else (conf_dir() / group).glob("*.yaml")
    options = ", ".join(sorted(path.stem for path in files))
    return f"{override.input_line} is not valid: valid are {options or f'names of options of the group {group}'}"


def _unknown_key(text: str) -> str | None:
    unknown, full = _UNKNOWN_KEY.search(text), _FULL_KEY.search(text)
    schema = getattr(schema_module, unknown["schema"], None) if unknown else None
    if unknown is None or schema is None:
        return None
    valid = sorted(schema.__dataclass_fields__)
    near = difflib.get_close_matches(unknown["key"], valid, 1)
    meant = f"did you mean {near[0]}? " if near else ""
    return f"{full['key'] if full else unknown['key']} is not a key: {meant}valid are {', '.join(valid)}"


def _wrong_type(text: str) -> str | None:
    wrong, full = _WRONG_TYPE.search(text), _FULL_KEY.search(text)
    if wrong is None or full is None:
        return None
    return f"{full['key']}={wrong['value']} is not valid: it takes a value of type {wrong['type']}"


def _wrong_kind(text: str) -> str | None:
    """For null, a list or keys where something else is needed, and for a value in place of a group of keys."""
    override, full = _OVERRIDE.search(text), _FULL_KEY.search(text)
    kind = _type_of(full["key"]) if full else None
    if override is None or full is None or kind is None:
        return None
    key = full["key"]
    if dataclasses.is_dataclass(kind):
        valid = ", ".join(f"{key}.{field.name}" for field in dataclasses.fields(kind))
        return f"{override[1]} is not valid: {key} is a group of keys, valid are {valid}"
    return f"{override[1]} is not valid: {key} takes {_type_in_words(kind)}"


def _type_of(key: str) -> Any:
    """The type that the schema gives a key such as `dataset.splits`; None for a key that it does not have."""
    kind: Any = schema_module.RunConfig
    for name in key.split("."):
        if not dataclasses.is_dataclass(kind):
            return None
        kind = typing.get_type_hints(kind).get(name)
    return kind


def _type_in_words(kind: Any) -> str:
    options = [option for option in typing.get_args(kind) if option is not type(None)]
    if type(None) in typing.get_args(kind):
        return f"{_type_in_words(options[0])} or null"
    return "a list such as [a,b]" if typing.get_origin(kind) is list else _IN_WORDS.get(kind, "another value")


def _joined(text: str) -> str:
    lines = (line.strip() for line in text.splitlines())
    kept = [line for line in lines if line and not line.startswith(("object_type=", "reference_type="))]
    return "; ".join(dict.fromkeys(kept))
