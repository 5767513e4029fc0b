"""Write a run's encoder as a folder that stands alone: weights, tokenizer, what was fitted, and a model card.

    rwkv-sweep export RUN OUT [--link] [--uri URI]

RUN is the folder of a finished run, or runs:/ID of MLflow. OUT is loaded by Encoder.from_run("OUT"), by
SentenceTransformer("OUT"), and by mlflow.pyfunc.load_model("OUT"), wherever this package is installed.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, and the folder to be made."""
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("out", metavar="OUT", type=Path)
    parser.add_argument("--link", action="store_true", help="links to the weights in place of copies")
    parser.add_argument("--uri", help="MLflow's tracking URI, for runs:/ID")


def run(args: argparse.Namespace) -> int:
    """Write the folder and print its path."""
    # Imported here, so that --help is quick.
    from rwkv_sweep.utils.console import quiet_dependencies

    quiet_dependencies()
    from rwkv_sweep.export.folder import export_run

    export_run(args.run, args.out, args.link, args.uri)
    print(args.out)
    return 0
