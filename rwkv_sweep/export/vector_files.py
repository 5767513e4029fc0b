"""Vectors in one file of NumPy, Parquet or safetensors, written part by part: more than fit into memory.

Shapes: N vectors in all, S in a part, D dimensions.
"""

from __future__ import annotations

import json
import os
import secrets
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from rwkv_sweep.errors import UserError
from rwkv_sweep.utils.files import unfinished_name

TENSOR_TYPES = {"float32": "F32", "float16": "F16", "int8": "I8"}
"""Of safetensors."""
ROW, VECTOR = "row", "embedding"
"""Columns of a Parquet file."""

Parts = Iterable[np.ndarray]
"""[S, D] one after the other."""
About = Mapping[str, str]
"""What the vectors are of, kept in the file where its format has a place for it."""


def check_format(path: Path) -> None:
    """Raises UserError where the name does not end as one of `WRITERS`."""
    if path.suffix not in WRITERS:
        raise UserError(f"--out={path} is of an unknown format: valid are names that end in {', '.join(WRITERS)}")


def write_vectors(path: Path, parts: Parts, shape: tuple[int, int], dtype: np.dtype, about: About) -> None:
    """Write a file whole or not at all. shape: [N, D].

    Raises:
        OSError: it cannot be written.
    """
    temporary = path.with_name(unfinished_name(path.name, secrets.token_hex(4)))
    try:
        with temporary.open("xb") as file:
            WRITERS[path.suffix](file, parts, shape, dtype, about)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _numpy(file: IO[bytes], parts: Parts, shape: tuple[int, int], dtype: np.dtype, about: About) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    _raw(file, parts)


def _safetensors(file: IO[bytes], parts: Parts, shape: tuple[int, int], dtype: np.dtype, about: About) -> None:
    """The library writes tensors that are in memory; the format is a header in JSON and the numbers behind it."""
    size = shape[0] * shape[1] * dtype.itemsize
    tensor = {"dtype": TENSOR_TYPES[dtype.name], "shape": list(shape), "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": dict(about), "vectors": tensor}).encode()
    header += b" " * (-len(header) % 8)  # numbers start at a multiple of 8 bytes
    file.write(struct.pack("<Q", len(header)) + header)
    _raw(file, parts)


def _parquet(file: IO[bytes], parts: Parts, shape: tuple[int, int], dtype: np.dtype, about: About) -> None:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    vectors = pa.list_(pa.from_numpy_dtype(dtype), shape[1])
    schema = pa.schema([(ROW, pa.int64()), (VECTOR, vectors)], metadata=dict(about))
    first = 0
    with ParquetWriter(file, schema, compression="none", use_dictionary=[ROW]) as writer:
        for part_SD in parts:
            column = pa.FixedSizeListArray.from_arrays(pa.array(part_SD.reshape(-1)), type=vectors)
            rows = pa.array(np.arange(first, first + len(part_SD)))
            writer.write_table(pa.Table.from_arrays([rows, column], schema=schema), row_group_size=len(part_SD))
            first += len(part_SD)


def _raw(file: IO[bytes], parts: Parts) -> None:
    for part_SD in parts:
        file.write(np.ascontiguousarray(part_SD).data)


WRITERS: dict[str, Callable[[IO[bytes], Parts, tuple[int, int], np.dtype, About], None]] = {
    ".npy": _numpy,
    ".parquet": _parquet,
    ".safetensors": _safetensors,
}
"""By the end of a file's name."""
