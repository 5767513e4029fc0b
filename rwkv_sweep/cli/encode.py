"""The texts of a file to vectors in a file, by the encoder of a run.

    rwkv-sweep encode TEXTS --run RUN --out vectors.parquet

TEXTS is .txt with one text a line, or .csv, .tsv, .jsonl, .json or .parquet, of which one column is read. RUN is the
folder of a finished run, one that rwkv-sweep export wrote, or runs:/ID of MLflow. The output is .npy, .safetensors, or
.parquet with the columns row and embedding; vectors are in the order of the texts. Memory does not grow with the texts.
What is interrupted or killed goes on where it was: the same command again.

Of a folder TEXTS each file is encoded to one of the folder --out, files that are there already are left, and several
processes, also of several machines that share the folder, may run the same command at the same time. --ray encodes them
on a Ray cluster, one encoder for each GPU or for each two cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rwkv_sweep.errors import BAD_INPUT, UserError

if TYPE_CHECKING:
    from rwkv_sweep.export.encoding import Encoded, Wanted
    from rwkv_sweep.export.shards import Shards

OUTPUTS = ("float32", "float16", "int8", "binary")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Texts, encoder, output."""
    parser.add_argument("texts", metavar="TEXTS", type=Path)
    parser.add_argument("--run", required=True, help="folder of a run or of an export, or runs:/ID")
    parser.add_argument("--out", required=True, type=Path, help="the file to be written")
    parser.add_argument("--column", help="of the texts; default text, or the only one")
    parser.add_argument("--layer", help="in place of the run's, such as 5 or final")
    parser.add_argument("--output", choices=OUTPUTS, default="float32", help="number format (default float32)")
    parser.add_argument("--normalize", action="store_true", help="scale each vector to length 1")
    parser.add_argument("--truncate-dim", type=int, help="keep the first so many dimensions")
    parser.add_argument("--prompt", help="text to put before each text")
    parser.add_argument("--on-empty", choices=("error", "zero"), default="error", help="zero: a vector of zeros")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: the kind that the run had")
    parser.add_argument(
        "--ray", nargs="?", const="auto", metavar="ADDRESS", help="on a Ray cluster; local starts one here"
    )
    parser.add_argument("--uri", help="MLflow's tracking URI, for runs:/ID")


def run(args: argparse.Namespace) -> int:
    """Encode, and print what was done and the path of the file."""
    # Imported here, so that --help is quick.
    from rwkv_sweep.utils.console import quiet_dependencies

    quiet_dependencies()
    from rwkv_sweep.export.texts import TextFile
    from rwkv_sweep.export.vector_files import check_format

    whole_folder = args.texts.is_dir()
    if not whole_folder:
        check_format(args.out)
        TextFile(args.texts, args.column)
    elif args.output == "int8":
        raise UserError(
            "--output=int8 with a folder: each file's ranges would be its own; valid are float32, float16 and binary"
        )
    from rwkv_sweep.export.encoding import Wanted

    wanted = Wanted(
        layers=_layers(args.layer),
        output=args.output,
        normalize=args.normalize,
        truncate_dim=args.truncate_dim,
        prompt=args.prompt,
        on_empty=args.on_empty,
    )
    if not whole_folder:
        return _encode_file(args, wanted)
    done = _encode_folder(args, wanted)
    print(done)
    print(args.out)
    return BAD_INPUT if done.failed else 0


def _encode_file(args: argparse.Namespace, wanted: Wanted) -> int:
    from rwkv_sweep.export.encoding import encode_file, open_encoder
    from rwkv_sweep.export.texts import TextFile

    if args.ray is not None:
        raise UserError(f"--ray={args.ray} with the file {args.texts}: valid is a folder of files")
    encoder, identity = open_encoder(args.run, args.device, args.uri)
    print(_summary(encode_file(encoder, identity, TextFile(args.texts, args.column), args.out, wanted)))
    print(args.out)
    return 0


def _encode_folder(args: argparse.Namespace, wanted: Wanted) -> Shards:
    """Here, or on a Ray cluster."""
    from rwkv_sweep.api.loading import REMOTE, load_record, run_folder
    from rwkv_sweep.export.encoding import encode_file, open_encoder
    from rwkv_sweep.export.shards import encode_shards, list_shards
    from rwkv_sweep.export.texts import TextFile

    shards = list_shards(args.texts.absolute(), args.out.absolute())
    if args.ray is not None:
        from rwkv_sweep.export.ray_actors import Request, encode_on_ray

        with run_folder(args.run, args.uri) as folder:
            device = args.device or load_record(folder, args.run).device
        run = args.run if args.run.startswith(REMOTE) else str(Path(args.run).absolute())
        return encode_on_ray(shards, Request(run, device, args.uri, args.column, wanted), args.ray)
    encoder, identity = open_encoder(args.run, args.device, args.uri)
    return encode_shards(
        shards,
        lambda shard: encode_file(encoder, identity, TextFile(shard.source, args.column), shard.target, wanted),
    )


def _summary(encoded: Encoded) -> str:
    rate = (encoded.texts - encoded.before) / max(encoded.seconds, 1e-9)
    there = f", {encoded.before} of them before" if encoded.before else ""
    return f"{encoded.texts} texts{there}, {encoded.dimension} numbers each, {rate:,.0f} texts/s"


def _layers(text: str | None) -> Any:
    """`--layer` as a number, a word, or a list such as [1,3].

    Raises:
        UserError: it is none of these.
    """
    import yaml

    if text is None:
        return None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(
            f"--layer={text} is not known: valid are a number, final, embedding, or a list [1,3]"
        ) from error
