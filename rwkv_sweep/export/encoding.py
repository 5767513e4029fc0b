"""The texts of a file to vectors in a file: part by part, in constant memory; what was killed goes on where it was.

Shapes: N texts in all, S in a part, D dimensions.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from rwkv_sweep.api.encoder import Encoder
from rwkv_sweep.api.loading import run_folder
from rwkv_sweep.config.path_values import require_folder_to_be
from rwkv_sweep.embedding.cache import vectors_code_digest
from rwkv_sweep.errors import UserError
from rwkv_sweep.evaluation.output_formats import quantized, ranges
from rwkv_sweep.export.texts import Scan, TextFile
from rwkv_sweep.export.vector_files import check_format, write_vectors
from rwkv_sweep.records.encoder_record import ENCODER_FILE
from rwkv_sweep.utils.console import log_line
from rwkv_sweep.utils.files import file_stamp, unfinished_name, write_atomically

ROWS, LEAST_ROWS, PART_BYTES = 8192, 64, 2**27
"""Texts of a part; fewer, but not fewer than the second number, of vectors so long that a part would be larger."""
KEY_FILE, RANGES_FILE = "key.json", "ranges.npy"
QUIET_SECONDS = 30.0
"""Between two reports where stderr is no terminal."""


class BusyError(UserError):
    """Another process writes the file."""


@dataclass(frozen=True)
class Wanted:
    """What the vectors are to be.

    Attributes:
        layers: in place of the run's; None for those.
        output: number format: `float32`, `float16`, `int8` or `binary`. `int8` cuts the range that each dimension has
            in the first part into 255 steps; `binary` keeps signs, eight to a byte.
        normalize, truncate_dim, prompt, on_empty: as of `Encoder.encode`.
    """

    layers: Any = None
    output: str = "float32"
    normalize: bool = False
    truncate_dim: int | None = None
    prompt: str | None = None
    on_empty: str = "error"


@dataclass(frozen=True)
class Encoded:
    """What was done. texts: how many, of which `before` were there already. seconds: for the rest."""

    texts: int
    before: int
    dimension: int
    seconds: float


def open_encoder(run: str, device: str | None, tracking_uri: str | None) -> tuple[Encoder, str]:
    """The encoder of a run, and a digest of its record. Arguments and errors: as of `Encoder.from_run`."""
    with run_folder(run, tracking_uri) as folder:
        encoder = Encoder.from_run(folder, device=device)
        return encoder, hashlib.sha256((folder / ENCODER_FILE).read_bytes()).hexdigest()


def encode_file(encoder: Encoder, identity: str, source: TextFile, target: Path, wanted: Wanted) -> Encoded:
    """Write the vectors of all texts, in their order.

    Args:
        identity: digest of the encoder's record; with the texts and `wanted` it decides which parts fit.

    Raises:
        UserError: a text or a value that cannot be, or another process that writes the same file.
        OSError: a file cannot be written.
    """
    check_format(target)
    require_folder_to_be("--out", str(target.absolute().parent), "a file in a folder that can be written")
    if os.path.lexists(target):
        raise UserError(f"--out={target} is there already: valid is a file to be made")
    stamp, scan = file_stamp(source.path), source.scan(empty=wanted.on_empty == "zero")
    folder = target.absolute().with_name(f".{target.name}.parts")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "lock", timeout=0):
            store = _Parts(folder, _key(identity, scan, wanted))
            try:
                encoded = _encode_parts(encoder, source, scan, wanted, store)
            except UserError:
                if not store.has(0):
                    shutil.rmtree(folder)
                raise
            shape, dtype = (scan.count, store.width()), store.dtype()
            if file_stamp(source.path) != stamp:
                raise UserError(f"{source.path} was changed while it was encoded: run the command again")
            about = {"model": repr(encoder), "output": wanted.output, "texts_sha256": scan.digest}
            if wanted.output == "int8":
                about["ranges"] = json.dumps(store.ranges().tolist())
            write_vectors(target, store.arrays(), shape, dtype, about)
            if wanted.output == "int8" and target.suffix == ".npy":
                shutil.copyfile(folder / RANGES_FILE, target.with_suffix(".ranges.npy"))
            shutil.rmtree(folder)
    except Timeout as error:
        raise BusyError(f"--out={target} is being written by another process: wait for it, or take another") from error
    return encoded


def _encode_parts(encoder: Encoder, source: TextFile, scan: Scan, wanted: Wanted, store: _Parts) -> Encoded:
    """Encode the parts that are not there yet."""
    from tqdm import tqdm

    rows = max(LEAST_ROWS, min(ROWS, PART_BYTES // (4 * encoder.get_sentence_embedding_dimension())))
    before, started = 0, time.monotonic()
    interval = 0.1 if sys.stderr.isatty() else QUIET_SECONDS
    with tqdm(total=scan.count, unit="text", mininterval=interval, delay=interval) as bar:
        for number, texts in enumerate(source.parts(rows)):
            if store.has(number):
                before += len(texts)
                bar.initial = bar.n = before
                continue
            store.put(number, _vectors(encoder, texts, number * rows, source, wanted, store))
            bar.update(len(texts))
    return Encoded(scan.count, before, store.width(), time.monotonic() - started)


def _vectors(
    encoder: Encoder, texts: list[str], first: int, source: TextFile, wanted: Wanted, store: _Parts
) -> np.ndarray:
    """[S, D] in the number format that is wanted. first: how many texts come before these.

    Raises:
        UserError: a text without tokens, or a number that the format cannot hold.
    """
    try:
        vectors_SD: np.ndarray = encoder.encode(
            texts,
            layers=wanted.layers,
            prompt=wanted.prompt,
            normalize_embeddings=wanted.normalize,
            truncate_dim=wanted.truncate_dim,
            on_empty=wanted.on_empty,
        )
    except UserError as error:
        place = f"{source.path}, texts {first + 1} to {first + len(texts)}"
        raise UserError(f"{place}: {error}".replace("on_empty='zero'", "--on-empty zero")) from error
    if wanted.output == "float16":
        with np.errstate(over="ignore"):
            half_SD = vectors_SD.astype(np.float16)
        if not np.isfinite(half_SD).all():
            raise UserError(
                f"--output=float16 cannot hold {np.abs(vectors_SD).max():g}, a number of these vectors: valid is "
                "float32, or --normalize"
            )
        return half_SD
    if wanted.output == "int8" and first == 0:
        store.put_ranges(ranges(vectors_SD))
    return quantized(vectors_SD, wanted.output, store.ranges() if wanted.output == "int8" else None)


def _key(identity: str, scan: Scan, wanted: Wanted) -> str:
    """What the parts must be of: encoder, code, texts, and what is wanted of them."""
    parts = {"encoder": identity, "code": vectors_code_digest(), "rows": ROWS, **asdict(scan), **asdict(wanted)}
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


class _Parts:
    """Vectors that are encoded, in a folder beside the file to be, one file for each part."""

    def __init__(self, folder: Path, key: str) -> None:
        """Parts of another key are removed, which is logged."""
        self._folder = folder
        record = folder / KEY_FILE
        known = record.read_text(encoding="utf-8").strip() if record.is_file() else None
        if known != key:
            old = [path for path in folder.iterdir() if path.name != "lock"]
            if known is not None and len(old) > 1:
                log_line(f"{folder} holds parts of other texts, or of another encoder: they are removed")
            for path in old:
                path.unlink()
            write_atomically(record, key + "\n")

    def has(self, number: int) -> bool:
        """Whether this part is there, whole."""
        return self._path(number).is_file()

    def put(self, number: int, array: np.ndarray) -> None:
        """Keep a part, whole or not at all."""
        self._write(self._path(number), array)

    def put_ranges(self, ranges_2D: np.ndarray) -> None:
        """Keep the smallest and largest value of each dimension."""
        self._write(self._folder / RANGES_FILE, ranges_2D)

    def ranges(self) -> np.ndarray:
        """[2, D]."""
        return np.asarray(np.load(self._folder / RANGES_FILE))

    def width(self) -> int:
        """Numbers in a vector as it is stored."""
        return int(np.load(self._path(0), mmap_mode="r").shape[1])

    def dtype(self) -> np.dtype:
        """Of the numbers."""
        return np.load(self._path(0), mmap_mode="r").dtype

    def arrays(self) -> Iterator[np.ndarray]:
        """All parts in order, one in memory at a time."""
        number = 0
        while self.has(number):
            yield np.load(self._path(number))
            number += 1

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.npy"

    def _write(self, path: Path, array: np.ndarray) -> None:
        temporary = path.with_name(unfinished_name(path.name, "00000000"))
        with temporary.open("wb") as file:
            np.save(file, array)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
