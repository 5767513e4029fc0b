"""What may have happened to a record: by a name, a function from its fields to the file's content."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Change = Callable[[dict[str, Any]], "str | bytes"]


def replaced(key: str, value: Any) -> Callable[[dict[str, Any]], str]:
    """One field, or an item of one (`metrics.x`), with another value."""
    name, _, inner = key.partition(".")
    return lambda record: json.dumps({**record, name: {**record[name], inner: value} if inner else value})


def without(key: str) -> Change:
    return lambda record: json.dumps({name: value for name, value in record.items() if name != key})


def as_text(change: Callable[[str], str | bytes]) -> Change:
    return lambda record: change(json.dumps(record))


def written(key: str, literal: str) -> Change:
    """One field as this JSON, which `json.dumps` may not write."""
    return lambda record: replaced(key, "MARK")(record).replace('"MARK"', literal)


DEEP = "[" * 100_000
CHANGES: dict[str, Change] = {
    "empty": lambda record: "",
    "cut off": as_text(lambda text: text[: len(text) // 2]),
    "zeros": as_text(lambda text: b"\0" * len(text)),
    "not UTF-8": as_text(lambda text: text.encode().replace(b"layer", b"\xff\xfe", 1)),
    "half a surrogate pair": replaced("name", "\ud800"),
    "deep": written("id", DEEP),
    "a list": lambda record: "[]",
    "a number": lambda record: "7",
    "null": lambda record: "null",
    "a key twice": as_text(lambda text: text[:-1] + ', "name": "other"}'),
    "an integer of 5000 digits": written("metrics.quality/spearman", "1" * 5000),
    "an integer of 400 digits": written("metrics.quality/spearman", "1" * 400),
    "name a number": replaced("name", 7),
    "unknown kind": replaced("kind", "ensemble"),
    "unknown status": replaced("status", "PAUSED"),
    "status a list": replaced("status", ["FINISHED"]),
    "params a list": replaced("params", []),
    "param a list": replaced("params.layer", [1]),
    "metrics null": replaced("metrics", None),
    "metric a text": replaced("metrics.quality/spearman", "0.5"),
    "metric true": replaced("metrics.quality/spearman", True),
    "metric null": replaced("metrics.quality/spearman", None),
    "tag a number": replaced("tags.device", 7),
    "tags a list": replaced("tags", []),
    "error a text": replaced("error", "it failed"),
    "error a list": replaced("error", ["it failed"]),
    "error without message": replaced("error", {"kind": "X"}),
    "error of numbers": replaced("error", {"kind": 1, "message": 2}),
    "started a text": replaced("started", "2026-01-01"),
    "started NaN": replaced("started", float("nan")),
    "started far away": replaced("started", 1e300),
    "ended infinite": replaced("ended", float("inf")),
    "ended before 1970": replaced("ended", -1.0),
    "id a path": replaced("id", "../../elsewhere"),
    "id with a quote": replaced("id", "a' or '1' = '1"),
    "key a number": replaced("key", 7),
    **{f"no {name}": without(name) for name in ("name", "kind", "status", "params")},
}
"""Of a run's `result.json`."""

SWEEP_CHANGES: dict[str, Change] = {
    **{name: CHANGES[name] for name in ("empty", "cut off", "zeros", "half a surrogate pair", "a list", "null")},
    "a key twice": CHANGES["a key twice"],
    "parent a list": replaced("parent", ["x"]),
    "swept a text": replaced("swept", "layer"),
    "swept of numbers": replaced("swept", [1]),
    "poolings null": replaced("poolings", None),
    "report a number": replaced("report", 7),
    "tracking a list": replaced("tracking", []),
    "tracking of lists": replaced("tracking", {"uri": ["x"]}),
    "started a text": replaced("started", "now"),
    "id a path": replaced("id", "../x"),
    "multirun a text": replaced("multirun", "yes"),
    "jobs negative": replaced("jobs", -1),
    "jobs huge": replaced("jobs", 10**400),
    "cwd a number": replaced("cwd", 7),
    **{f"no {name}": without(name) for name in ("name", "parent", "swept", "tracking")},
}
"""Of a sweep's `sweep.json`."""
