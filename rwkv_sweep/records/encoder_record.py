"""What a run keeps so that its encoder can be made again: `encoder.json`, and what was fitted as arrays beside it.

The weights stay where they are; their fingerprint shows whether they are still those of the run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rwkv_sweep.errors import UserError
from rwkv_sweep.records import record_checks as checks
from rwkv_sweep.records.own_files import ENCODER_FILE as ENCODER_FILE
from rwkv_sweep.records.own_files import ENCODER_FILES as ENCODER_FILES
from rwkv_sweep.records.own_files import FITTED_FILE as FITTED_FILE
from rwkv_sweep.records.record_checks import read_record
from rwkv_sweep.utils.files import write_atomically
from rwkv_sweep.utils.redaction import redact_all

_FIELDS: dict[str, checks.Check] = {
    "config": lambda value: "" if isinstance(value, dict) else f"is {checks.as_json(value)}, not an object",
    "dimension": checks.count,
    "model_fingerprint": checks.text,
    "tokenizer_fingerprint": checks.text,
    "device": checks.text,
    "versions": checks.dict_of(checks.text),
    "reference": checks.list_of(checks.number),
    "fitted_sha256": checks.optional(checks.text),
    "run": checks.identifier,
}


@dataclass(frozen=True)
class EncoderRecord:
    """The encoder of a finished run.

    Attributes:
        config: the groups and keys of the run's config that decide its vectors. A relative `model.path` starts from the
            folder of the record.
        dimension: of a finished vector.
        model_fingerprint, tokenizer_fingerprint: as of `LoadedModel`.
        device: `cpu` or `cuda`, where the run was.
        versions: of this program and of what computes, for messages.
        reference: cosines between finished vectors of fixed texts, see `Embedder.reference_cosines`.
        fitted_sha256: of the file of arrays; None where nothing was fitted.
        run: id of the run's record.
    """

    config: dict[str, Any]
    dimension: int
    model_fingerprint: str
    tokenizer_fingerprint: str
    device: str
    versions: dict[str, str] = field(default_factory=dict)
    reference: list[float] = field(default_factory=list)
    fitted_sha256: str | None = None
    run: str = ""

    def save(self, folder: Path, fitted: Mapping[str, np.ndarray]) -> None:
        """Write both files into `folder`, each whole or not at all, the record last.

        Raises:
            OSError: a file cannot be written.
        """
        from safetensors.numpy import save

        content = asdict(self)
        if fitted:
            data = save({name: np.ascontiguousarray(array) for name, array in fitted.items()})
            write_atomically(folder / FITTED_FILE, data)
            content["fitted_sha256"] = hashlib.sha256(data).hexdigest()
        write_atomically(folder / ENCODER_FILE, json.dumps(redact_all(content), indent=2, sort_keys=True) + "\n")

    @classmethod
    def load(cls, folder: Path) -> EncoderRecord:
        """Read `encoder.json` of a folder.

        Raises:
            FileNotFoundError: there is none.
            UserError: it is damaged.
        """
        return cls(**read_record(folder / ENCODER_FILE, _FIELDS, tuple(_FIELDS)))

    def load_fitted(self, folder: Path) -> dict[str, np.ndarray]:
        """The arrays that were fitted, by name; none where nothing was.

        Raises:
            UserError: the file is not there, or is another than the run wrote.
        """
        from safetensors.numpy import load

        if self.fitted_sha256 is None:
            return {}
        path = folder / FITTED_FILE
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): the run's encoder needs it") from error
        if hashlib.sha256(data).hexdigest() != self.fitted_sha256:
            raise UserError(f"{path} is damaged: its SHA-256 is not the one that {ENCODER_FILE} names")
        arrays: dict[str, np.ndarray] = load(data)
        return arrays
