"""A sentence's vector depends on nothing else in the call: not on its neighbours, their order, or the batches.

The one exception, LLM.int8, is named in docs/limits.md; every other precision, pooling, aggregation, prompt,
post-processing, kind of network and argument of `encode` is held to it here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rwkv_sweep import Encoder
from rwkv_sweep.config.hydra_store import conf_dir
from rwkv_sweep.config.schema import AGGREGATIONS, POOLINGS, POSTPROCESSES
from rwkv_sweep.errors import UnsupportedError
from tests.small_networks import save_networks

pytestmark = pytest.mark.usefixtures("one_thread")

TEXTS = [
    "A cat sleeps on the mat.",
    "The cat is asleep.",
    "no",
    "In May, prices rose by 3 percent, officials said on Monday, and would rise again before the year ends.",
    "A cat sleeps on the mat.",
    "Ünïcödé!",
]
CORPUS = [
    f"{who} {what}" for who in ("A cat", "The bank", "Rain", "She", "No one") for what in ("slept.", "rose in May.")
]
SMALL = (
    "model=random",
    "model.tokenizer=bytes",
    "model.hidden_size=32",
    "model.num_blocks=3",
    "model.head_size=8",
    "model.intermediate_size=64",
    "model.vocab_size=256",
    "device=cpu",
)
PRECISIONS = sorted(path.stem for path in (conf_dir() / "precision").glob("*.yaml"))
EXEMPT = {"int8"}
FITTED = [name for name in POSTPROCESSES if name != "head"]


@dataclass(frozen=True)
class Case:
    """overrides: of the encoder. arguments: of `encode`. tolerance: of the largest value in the vectors."""

    overrides: tuple[str, ...] = ()
    arguments: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-5
    model: tuple[str, ...] = SMALL


ALL = ("layer=[0,1,2]",)
CASES = {
    **{f"pooling {name}": Case((f"pooling={name}", "layer=1", "model.eos_id=0")) for name in POOLINGS},
    "three end-of-text tokens": Case(("pooling=eos", "layer=1", "model.eos_id=0", "model.eos_count=3")),
    **{f"aggregation {name}": Case((f"aggregation={name}", *ALL)) for name in AGGREGATIONS if name != "none"},
    **{f"postprocess {name}": Case((f"postprocess={name}", "postprocess.components=1")) for name in FITTED},
    # Rounding may fall on the other side in 16, 8 or 4 bits.
    **{f"precision {name}": Case((f"precision={name}",), tolerance=0.03) for name in PRECISIONS if name not in EXEMPT},
    "template": Case(("prompt=template", "prompt.template='He said: {sentence} Yes.'")),
    "echo": Case(("prompt=echo",)),
    "truncated": Case(("max_tokens=7",)),
    "truncated, with a template": Case(("max_tokens=20", "prompt=template", "prompt.template='It: {sentence}'")),
    "small batches": Case(("batch_tokens=30",)),
    "normalized": Case(arguments={"normalize_embeddings": True}),
    "first dimensions": Case(arguments={"truncate_dim": 5}),
    "prompt": Case(arguments={"prompt": "Question: "}),
    "other layer": Case(arguments={"layers": 0}),
    "other layer, fitted": Case(("postprocess=whiten",), {"layers": 0}),
    # A step more or less, of 255.
    "bytes": Case(arguments={"precision": "int8"}, tolerance=1.5 / 128),
    "unsigned bytes": Case(arguments={"precision": "uint8"}, tolerance=1.5 / 255),
    "bits": Case(arguments={"precision": "ubinary"}),
    "empty texts": Case(arguments={"on_empty": "zero"}),
    **{
        name: Case(("layer=2",), model=("model=hf", "device=cpu", "max_tokens=64", name))
        for name in ("bert", "gpt2", "rwkv", "t5")
    },
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_networks(tmp_path_factory.mktemp("networks"))


def encoder_of(case: Case, folders: dict[str, Path]) -> Encoder:
    model = [f"model.path={folders[word]}" if word in folders else word for word in case.model]
    try:
        return Encoder.from_config(*model, *case.overrides, corpus=CORPUS)
    except UnsupportedError as error:
        pytest.skip(str(error))


def calls(texts: list[str]) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """The same texts in other company: each alone, turned round, in other batches, among copies of a long one."""
    yield texts[::-1], {}
    yield texts, {"batch_size": 1}
    yield texts, {"batch_size": 2}
    yield [texts[3]] * 40 + texts, {}
    yield from (([text], {}) for text in texts)


@pytest.mark.parametrize("name", CASES)
def test_a_vector_is_that_of_its_text_alone(name: str, folders: dict[str, Path]) -> None:
    case = CASES[name]
    encoder = encoder_of(case, folders)
    texts = [*TEXTS, ""] if "on_empty" in case.arguments else TEXTS
    expected = dict(zip(texts, encoder.encode(texts, **case.arguments).astype(float), strict=True))
    largest = max(np.abs(vector).max() for vector in expected.values())
    apart = np.abs(expected[TEXTS[0]] - expected[TEXTS[3]]).max()
    assert apart > case.tolerance * largest, "else the comparison would show nothing"
    for some, more in calls(texts):
        for text, vector in zip(some, encoder.encode(some, **case.arguments, **more).astype(float), strict=True):
            np.testing.assert_allclose(vector, expected[text], rtol=0, atol=case.tolerance * largest)


def test_limits_name_the_exception(repo_root: Path) -> None:
    assert set(PRECISIONS) >= EXEMPT
    text = " ".join((repo_root / "docs" / "limits.md").read_text(encoding="utf-8").split())
    assert "LLM.int8 chooses its outlier columns over a whole batch" in text
