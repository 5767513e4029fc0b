"""Train 50-dimensional word vectors on the corpus and export the most frequent words into a small file.

What: `tokens` writes the train documents as lower-cased words and punctuation marks, one paragraph a line; `train`
trains gensim's Word2Vec on such a file and stores it; `evaluate` measures the Spearman correlation of the cosine of two
sentences' mean vectors with MRPC's label (train[:1000] and validation; never test), before and after a post-treatment;
`export` writes words and float16 vectors as `.safetensors`; `load` reads that file into gensim's KeyedVectors.

Why: the average of word vectors is the baseline that hidden layers are compared with, and GloVe's own file is too big
to come with the project. The token form is MRPC's own ("company 's", "didn 't", "u.s."), so `text.lower().split()`
finds its words.

Commands (several workers make gensim's result vary a little from run to run, also with a fixed seed):
    python -m pretraining.word_vectors tokens --corpus DIR --out .scratch/words/all.txt
    python -m pretraining.word_vectors train --tokens .scratch/words/all.txt --out .scratch/words/final.npz [options]
    python -m pretraining.word_vectors evaluate --vectors .scratch/words/final.npz --mrpc DIR
    python -m pretraining.word_vectors export --vectors .scratch/words/final.npz --out .scratch/word_vectors.safetensors
"""

import argparse
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from gensim.models import KeyedVectors, Word2Vec
from safetensors.numpy import load_file, save_file
from scipy.stats import spearmanr

from pretraining.corpus import Document, documents, read_mrpc_sentences

DIMENSIONS = 50
SEED = 20261121
MAX_BYTES = 4 * 1024 * 1024
SEPARATOR = "\n"

_QUOTES = str.maketrans(
    {
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{LEFT SINGLE QUOTATION MARK}": "'",
        "\N{LEFT DOUBLE QUOTATION MARK}": '"',
        "\N{RIGHT DOUBLE QUOTATION MARK}": '"',
        "\N{EM DASH}": " -- ",
        "\N{EN DASH}": "-",
        "\N{HORIZONTAL ELLIPSIS}": " ... ",
    }
)
_TITLES = "mr|mrs|ms|dr|prof|gen|col|lt|sgt|rev|gov|sen|rep|st|jr|sr|corp|inc|ltd|co|jan|feb|aug|sept|sep|oct|nov|dec"
_WORD = re.compile(
    r"(?<![\w'])(?:[a-z]\.){2,}(?:-\w+)*"  # u.s., p.m., u.s.-based
    rf"|(?<![\w'])(?:{_TITLES})\.(?=\s)|(?<![\w'])no\.(?=\s\d)"
    r"|(?<![\w'])[a-z]\.(?=\s\w)"  # george w. bush
    r"|\d+(?:[.,:/]\d+)+(?:-\w+)*"  # 1,000 and 0.4
    r"|\w+(?:-\w+)*"  # technology-laced
    r"|(?<=\w)'\w+"  # company 's, didn 't, o 'connor
    r"|\.{2,}|--+"
    r"|[^\w\s]"
)


def words(text: str) -> list[str]:
    """Split a text into lower-cased words and punctuation marks in the form of MRPC and, nearly, of GloVe 6B."""
    return _WORD.findall(text.translate(_QUOTES).lower())


def write_tokens(stream: Iterator[Document], out: Path) -> int:
    """Write documents as words separated by spaces, a paragraph a line (gensim's fast input form); count the words."""
    out.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with out.open("w", encoding="utf-8", newline="\n") as file:
        for document in stream:
            for paragraph in document:
                tokens = words(paragraph)
                count += len(tokens)
                file.write(" ".join(tokens) + "\n")
    return count


def train(args: argparse.Namespace) -> None:
    """Train Word2Vec and store words (most frequent first) with their vectors and counts."""
    start = time.perf_counter()
    model = Word2Vec(
        corpus_file=str(args.tokens), vector_size=DIMENSIONS, sg=args.skip_gram, window=args.window, alpha=args.alpha,
        negative=args.negative, sample=args.sample, epochs=args.epochs, min_count=args.min_count,
        ns_exponent=args.ns_exponent, workers=args.workers, seed=SEED,
    )  # fmt: skip
    keyed = model.wv
    counts = np.array([keyed.get_vecattr(word, "count") for word in keyed.index_to_key], np.int64)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(args.out, words=np.array(SEPARATOR.join(keyed.index_to_key)), vectors=keyed.vectors, counts=counts)
    print(f"{len(counts)} words, {counts.sum():,} tokens, {time.perf_counter() - start:.0f} s")


def read_trained(path: Path) -> tuple[list[str], np.ndarray]:
    """Read what `train` stored."""
    with np.load(path) as stored:
        return str(stored["words"]).split(SEPARATOR), stored["vectors"].astype(np.float32)


def post_treat(vectors: np.ndarray, top: int, unit: bool) -> np.ndarray:
    """Optionally scale to unit length, then remove the mean and the `top` first principal directions.

    This is "all-but-the-top" (Mu and Viswanath, 2018); top = 0 removes the mean only and top = -1 nothing. It depends
    on the vocabulary alone, not on word frequencies or on any sentence.
    """
    if unit:
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    if top >= 0:
        vectors = vectors - vectors.mean(axis=0)
    if top > 0:
        directions = np.linalg.svd(vectors.T @ vectors)[0][:, :top]
        vectors = vectors - vectors @ directions @ directions.T
    return vectors


def mean_vectors(sentences: list[str], table: Mapping[str, np.ndarray]) -> np.ndarray:
    """Average the vectors of the known words of `text.lower().split()`; zeros if none is known."""
    means = np.zeros((len(sentences), DIMENSIONS))
    for row, sentence in enumerate(sentences):
        known = [table[word] for word in sentence.lower().split() if word in table]
        if known:
            means[row] = np.mean(known, axis=0)
    return means


def spearman(pairs: tuple[list[str], np.ndarray], table: Mapping[str, np.ndarray]) -> float:
    """Correlate the cosine of the mean vectors with the label."""
    sentences, labels = pairs
    means = mean_vectors(sentences, table)
    means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
    return float(spearmanr((means[0::2] * means[1::2]).sum(axis=1), labels).statistic)


def read_pairs(path: Path, limit: int | None = None) -> tuple[list[str], np.ndarray]:
    """Read MRPC sentences (two a pair) and labels."""
    labels = [int(line[0]) for line in path.read_text(encoding="utf-8").split("\n")[1:] if line][:limit]
    return read_mrpc_sentences(path)[: 2 * len(labels)], np.array(labels)


def evaluate(args: argparse.Namespace) -> None:
    """Print Spearman and the share of known tokens for several post-treatments."""
    if args.vectors.suffix == ".npz":
        names, vectors = read_trained(args.vectors)
    elif args.vectors.suffix == ".safetensors":
        keyed = load(args.vectors)
        names, vectors = keyed.index_to_key, keyed.vectors
    else:  # GloVe's text form
        rows = [line.split(" ") for line in args.vectors.read_text(encoding="utf-8").split("\n") if line]
        names, vectors = [row[0] for row in rows], np.array([row[1:] for row in rows], np.float32)
    names, vectors = names[: args.words], vectors[: args.words]
    sets = [read_pairs(args.mrpc / "train.tsv", 1000), read_pairs(args.mrpc / "validation.tsv")]
    known = [share_known(pairs[0], set(names)) for pairs in sets]
    print(f"{args.vectors.name}: {len(names)} words; known tokens {known[0]:.4f} {known[1]:.4f}")
    for unit in (False, True):
        for top in args.top:
            table = dict(zip(names, post_treat(vectors, top, unit), strict=True))
            scores = [spearman(pairs, table) for pairs in sets]
            print(
                f"  unit={unit!s:5} top={top:2}  train[:1000] {scores[0]:.4f}  validation {scores[1]:.4f}", flush=True
            )


def share_known(sentences: list[str], names: set[str]) -> float:
    """Say which share of the tokens has a vector."""
    tokens = " ".join(sentences).lower().split()
    return sum(token in names for token in tokens) / len(tokens)


def export(args: argparse.Namespace) -> None:
    """Post-treat the vectors and write as many of the most frequent words as fit."""
    names, vectors = read_trained(args.vectors)
    sizes = np.cumsum([len((name + SEPARATOR).encode()) + 2 * DIMENSIONS for name in names])
    count = int(np.searchsorted(sizes, MAX_BYTES - 1024))  # leaves room for the header
    names, vectors = names[:count], post_treat(vectors[:count], args.top[0], args.unit).astype(np.float16)
    packed = np.frombuffer(SEPARATOR.join(names).encode(), np.uint8)
    note = f"word2vec, {DIMENSIONS} dimensions; words: UTF-8 separated by newlines, most frequent first; {args.note}"
    save_file({"vectors": vectors, "words": packed}, args.out, metadata={"note": note})
    size = args.out.stat().st_size
    if size > MAX_BYTES:
        raise RuntimeError(f"{args.out} has {size} bytes, more than {MAX_BYTES}")
    print(f"{args.out}: {count} words, {size:,} bytes")


def load(path: Path) -> KeyedVectors:
    """Read an exported file into gensim's KeyedVectors."""
    tensors = load_file(path)
    keyed = KeyedVectors(DIMENSIONS)
    keyed.add_vectors(tensors["words"].tobytes().decode().split(SEPARATOR), tensors["vectors"].astype(np.float32))
    return keyed


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    tokens = commands.add_parser("tokens")
    tokens.add_argument("--corpus", type=Path, required=True)
    tokens.add_argument("--only", nargs="+", default=[""], help="take the sources whose name starts so")
    trainer = commands.add_parser("train")
    trainer.add_argument("--tokens", type=Path, required=True)
    trainer.add_argument("--skip-gram", action="store_true")
    options: dict[str, float] = {"window": 5, "negative": 5, "epochs": 5, "min_count": 5, "workers": 2}
    options |= {"sample": 1e-3, "alpha": 0.025, "ns_exponent": 0.75}
    for name, value in options.items():
        trainer.add_argument("--" + name.replace("_", "-"), type=type(value), default=value)
    evaluator, exporter = commands.add_parser("evaluate"), commands.add_parser("export")
    for command in (evaluator, exporter):
        command.add_argument("--vectors", type=Path, required=True)
        command.add_argument("--top", type=int, nargs="+", default=[-1, 0, 1, 2])
    evaluator.add_argument("--mrpc", type=Path, required=True)
    evaluator.add_argument("--words", type=int, default=38500, help="keep the most frequent words only, as export does")
    exporter.add_argument("--unit", action="store_true")
    exporter.add_argument("--note", default="", help="kept in the file")
    for command in (tokens, trainer, exporter):
        command.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    """Run the command line."""
    args = parse_arguments()
    if args.command == "tokens":
        print(f"{write_tokens(documents(args.corpus, 'train', args.only), args.out):,} words")
    else:
        {"train": train, "evaluate": evaluate, "export": export}[args.command](args)


if __name__ == "__main__":
    main()
