"""How an encoder in Python reads texts: what stands before each, in batches of which size, and what if one is empty."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from rwkv_sweep.api.inputs import require_count
from rwkv_sweep.config.schema import require_one_of
from rwkv_sweep.embedding.layer_encoder import Progress, RwkvEncoder
from rwkv_sweep.embedding.prompts import SLOT
from rwkv_sweep.errors import NoTokensError, UserError

ON_EMPTY = ("error", "zero")
PROMPT_TYPES = {"query": ("query",), "document": ("document", "passage", "corpus")}
"""Names under which sentence-transformers looks for the prompt of each kind."""


@dataclass(frozen=True)
class Reading:
    """The arguments of `Encoder.encode` that say how texts are read.

    Attributes:
        before: put before each text.
        batch_size: texts per batch at most, None for no limit.
        progress: whether to show a bar.
        on_empty: one of `ON_EMPTY`.

    Raises:
        UserError: a value that cannot be.
    """

    before: str = ""
    batch_size: int | None = None
    progress: bool = False
    on_empty: str = "error"

    def __post_init__(self) -> None:
        require_count("batch_size", self.batch_size)
        require_one_of("on_empty", self.on_empty, ON_EMPTY)


def pooled(
    encoder: RwkvEncoder, texts: Sequence[str], layers: Sequence[int], pooling: str, reading: Reading
) -> tuple[Tensor, list[int]]:
    """Pooled vectors [layers, K, D'] of the K texts that have tokens, and which of the texts these are.

    Raises:
        UserError: a text without tokens, where these are not left out.
        NonFiniteError: a vector holds NaN or infinity.
    """
    encoder = replace(encoder, batch_size=reading.batch_size)
    # An empty text is one whatever is put before it.
    rows = _without(list(range(len(texts))), [row for row, text in enumerate(texts) if not text], texts, reading)
    while True:
        try:
            with _progress(len(rows), reading.progress) as advance:
                read = [reading.before + texts[row] for row in rows]
                return encoder.encode(read, layers, [pooling], advance)[pooling], rows
        except NoTokensError as error:
            rows = _without(rows, error.rows, texts, reading)


def spread(vectors: np.ndarray, rows: Sequence[int], count: int, axis: int) -> np.ndarray:
    """`count` vectors along `axis`: these at `rows`, zeros elsewhere."""
    if len(rows) == count:
        return vectors
    shape = list(vectors.shape)
    shape[axis] = count
    out = np.zeros(shape, dtype=vectors.dtype)
    out[(slice(None),) * axis + (list(rows),)] = vectors
    return out


def check_prompts(prompts: Mapping[str, str]) -> dict[str, str]:
    """The prompts of an encoder, by name.

    Raises:
        TypeError, UserError: no mapping of names to texts; see `chosen_prompt`.
    """
    if not isinstance(prompts, Mapping):
        raise TypeError(f'prompts={prompts!r} is not valid: valid are texts by name, such as {{"query": "Question: "}}')
    return {name: _checked(f"prompts[{name!r}]", text) for name, text in prompts.items()}


def chosen_prompt(prompts: Mapping[str, str], prompt: str | None, name: str | None, kind: str | None) -> str:
    """What is put before each text.

    Args:
        prompts: an encoder's, by name.
        prompt, name, kind: `prompt`, `prompt_name` and `prompt_type` of `Encoder.encode`.

    Raises:
        TypeError: a prompt that is no text.
        UserError: a name that `prompts` does not have, a name and a prompt, or a template in place of a prompt.
    """
    if prompt is not None and name is not None:
        raise UserError(f"prompt={prompt!r} and prompt_name={name!r}: valid is one of the two")
    if prompt is not None:
        return _checked("prompt", prompt)
    if name is not None:
        if name not in prompts:
            known = ", ".join(prompts) or "none, as the encoder was made without prompts="
            raise UserError(f"prompt_name={name!r} is not known: valid are {known}")
        return prompts[name]
    if kind is None:
        return ""
    kind = str(getattr(kind, "value", kind))
    require_one_of("prompt_type", kind, tuple(PROMPT_TYPES))
    return next((prompts[known] for known in PROMPT_TYPES[kind] if known in prompts), "")


def _checked(argument: str, text: object) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{argument}={text!r} is not valid: valid is a text, which is put before each sentence")
    if SLOT in text:
        raise UserError(
            f"{argument}={text!r} is a template: valid is a text that is put before each sentence; a template is the "
            'key prompt.template of Encoder.from_config, such as "prompt=template"'
        )
    return text


def _without(rows: list[int], lost: Collection[int], texts: Sequence[str], reading: Reading) -> list[int]:
    """`rows` less those at the places `lost`, whose texts have no tokens."""
    if lost and reading.on_empty == "error":
        row = rows[min(lost)]
        raise UserError(
            f"sentences[{row}]={texts[row]!r} has no tokens: valid are texts that have some, or on_empty='zero' for a "
            "vector of zeros"
        )
    gone = set(lost)
    return [row for place, row in enumerate(rows) if place not in gone]


@contextlib.contextmanager
def _progress(total: int, shown: bool) -> Iterator[Progress | None]:
    if not shown:
        yield None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit="sentence") as bar:

        def advance(count: int) -> None:
            bar.update(count)

        yield advance
