"""A folder of files of texts encoded on a Ray cluster: one encoder for each GPU, or for each two cores, as an actor.

An actor that is lost, with its machine or alone, is started again, and so is the file that it was at work on: from the
first part that is not there.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rwkv_sweep.errors import UserError
from rwkv_sweep.export.encoding import BusyError, Wanted, encode_file, open_encoder
from rwkv_sweep.export.shards import Shard, Shards
from rwkv_sweep.export.texts import TextFile
from rwkv_sweep.utils.redaction import redact

CORES = 2
"""Of an actor without a GPU."""
DONE, BUSY, FAILED = "done", "busy", "failed"


@dataclass(frozen=True)
class Request:
    """What each actor must know: run, device and tracking URI as of `Encoder.from_run`, the column of the texts, and
    what is wanted."""

    run: str
    device: str
    tracking_uri: str | None
    column: str | None
    wanted: Wanted


class EncodingActor:
    """An encoder on a machine of the cluster."""

    def __init__(self, request: Request) -> None:
        """Load the encoder.

        Raises:
            UserError: see `Encoder.from_run`.
        """
        self._request = request
        self._encoder, self._identity = open_encoder(request.run, request.device, request.tracking_uri)

    def encode(self, source: Path, target: Path) -> tuple[str, int, str]:
        """What became of a file, its texts, and what was wrong with it."""
        try:
            texts = TextFile(source, self._request.column)
            encoded = encode_file(self._encoder, self._identity, texts, target, self._request.wanted)
        except BusyError:
            return BUSY, 0, ""
        except UserError as error:
            return FAILED, 0, str(error)
        return DONE, encoded.texts, ""


def encode_on_ray(shards: Sequence[Shard], request: Request, address: str) -> Shards:
    """Encode what is not done, on all of a cluster at once.

    Args:
        shards: with paths that lead to the same files on every machine.
        address: of the cluster; `local` starts one on this machine.

    Raises:
        UserError: Ray is not installed, there is no such cluster, or an encoder cannot be loaded.
    """
    try:
        import ray
    except ImportError as error:
        raise UserError("--ray needs Ray: pip install 'rwkv-sweep[ray]', on every machine") from error
    left = [shard for shard in shards if not shard.target.exists()]
    done = Shards(before=len(shards) - len(left))
    if not left:
        return done
    try:
        ray.init(address=address, log_to_driver=False, include_dashboard=False if address == "local" else None)
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"--ray={address} cannot be reached ({reason}): valid is auto, local, or the address that ray start printed"
        ) from error
    with contextlib.ExitStack() as stack:
        stack.callback(ray.shutdown)
        pool = ray.util.ActorPool(_actors(ray, request, len(left)))
        try:
            for state, texts, message in pool.map_unordered(_encode_one, left):
                _count(done, state, texts, message)
        except ray.exceptions.RayActorError as error:
            cause = str(error).strip().splitlines()[-1]
            raise UserError(f"no encoder could be started on the cluster: {cause}") from error
    return done


def _actors(ray: Any, request: Request, most: int) -> list[Any]:
    """As many as the cluster has places for, and there are files."""
    resources = ray.cluster_resources()
    on_gpus = request.device != "cpu" and resources.get("GPU", 0) >= 1
    cores = min(CORES, int(resources.get("CPU", 1)))
    places = int(resources["GPU"]) if on_gpus else max(1, int(resources.get("CPU", 1)) // cores)
    needs: dict[str, Any] = {"num_gpus": 1} if on_gpus else {"num_cpus": cores}
    actor = ray.remote(max_restarts=-1, max_task_retries=-1, **needs)(EncodingActor)
    return [actor.remote(request) for _ in range(min(places, most))]


def _encode_one(actor: Any, shard: Shard) -> Any:
    return actor.encode.remote(shard.source, shard.target)


def _count(done: Shards, state: str, texts: int, message: str) -> None:
    if state == FAILED:
        print(f"error: {redact(message)}", file=sys.stderr)
        done.failed += 1
    elif state == BUSY:
        done.busy += 1
    else:
        done.encoded += 1
        done.texts += texts
