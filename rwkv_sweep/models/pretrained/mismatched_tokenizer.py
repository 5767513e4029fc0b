"""The study's first mistake, made on purpose: ids of one vocabulary fed to a model of another.

GPT-2's tokenizer cuts the text, the model looks its ids up in a table where they stand for other pieces of text.
Nothing crashes as long as the table is large enough; where it is not, ids are folded into it.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

from rwkv_sweep.errors import UserError
from rwkv_sweep.models.pretrained.tokenizers import TOKENIZER_FILE, Tokenizer, load_tokenizer

GPT2 = "gpt2"
GPT2_ID, GPT2_REVISION = "openai-community/gpt2", "607a30d783dfa663caf39e06633721c8d4cfcd7e"

log = logging.getLogger(__name__)


class ForeignTokenizer:
    """Ids of `inner`, modulo the rows of the model's embedding table."""

    def __init__(self, inner: Tokenizer, table_size: int) -> None:
        self._inner, self._rows = inner, table_size
        folded = f", folded into {table_size} rows" if inner.vocab_size > table_size else ""
        self.name = f"{inner.name} (not the model's{folded})"
        self.vocab_size = min(inner.vocab_size, table_size)
        self.fingerprint = hashlib.sha256(f"foreign {inner.fingerprint} {table_size}".encode()).hexdigest()[:16]
        self.prefix: Sequence[int] = [token % table_size for token in inner.prefix]
        self.suffix: Sequence[int] = [token % table_size for token in inner.suffix]

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """See `Tokenizer.encode`."""
        return [[token % self._rows for token in ids] for ids in self._inner.encode(sentences)]


def foreign_tokenizer(spec: str, table_size: int, gpt2_stand_in: str | None = None) -> ForeignTokenizer:
    """The tokenizer that `model.foreign_tokenizer` names.

    Args:
        spec: the key's value.
        table_size: rows of the model's embedding table.
        gpt2_stand_in: taken in place of `gpt2` by a model that must run without a network; its `tokenizer` tag says so.

    Raises:
        UserError: it is not there.
    """
    if spec == GPT2 and gpt2_stand_in is not None:
        _log_stand_in(gpt2_stand_in)
        spec = gpt2_stand_in
    elif spec == GPT2:
        spec = str(_gpt2())
    return ForeignTokenizer(load_tokenizer(spec, None, 2**31, "model.foreign_tokenizer"), table_size)


@functools.cache
def _log_stand_in(name: str) -> None:
    """Once for a process; a tag has it for each run."""
    log.warning("model.foreign_tokenizer=gpt2: the embedded model gets ids of the %s vocabulary instead", name.title())


def _gpt2() -> Path:
    from huggingface_hub import hf_hub_download

    for offline in (True, False):
        try:
            return Path(hf_hub_download(GPT2_ID, TOKENIZER_FILE, revision=GPT2_REVISION, local_files_only=offline))
        except Exception as error:  # as in `locate.hub_folder`
            reason = error
    why = (str(reason).strip().splitlines() or [type(reason).__name__])[0]
    raise UserError(
        f"model.foreign_tokenizer={GPT2} is not in the local cache and could not be fetched from the Hugging Face hub "
        f"({why}). Without the hub, copy {TOKENIZER_FILE} of {GPT2_ID} anywhere and set "
        "model.foreign_tokenizer=<that file>"
    ) from reason
