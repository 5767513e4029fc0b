"""Read the training corpus: documents, a fixed train/validation split, sentences, and a check for evaluation text.

What: streams the `*.txt.xz` files of a corpus folder (one paragraph a line, an empty line ends a document), splits
documents into train and validation, and splits paragraphs into sentences. `check` looks for evaluation sentences
anywhere in the corpus; `sources` counts what is in it.

Why: every script of this folder must see the same split, and a model that is evaluated on MRPC must not have been
trained on MRPC's sentences.

Commands:
    python -m pretraining.corpus sources --corpus DIR
    python -m pretraining.corpus check --corpus DIR --mrpc DIR/train.tsv DIR/validation.tsv DIR/test.tsv
"""

import argparse
import csv
import hashlib
import lzma
import re
import string
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

Document = list[str]

SPLIT_SALT = "rwkv-sweep-6"  # chosen so that one of the 62 books of Gutenberg is in validation
VALIDATION_PER_MILLE = 10
MIN_CHARACTERS = 25

_ALNUM = frozenset((string.ascii_lowercase + string.digits).encode())
_NOT_ALNUM = bytes(code for code in range(256) if code not in _ALNUM)

# A full stop after one of these seldom ends a sentence.
_ABBREVIATION = re.compile(
    r"mr|mrs|ms|dr|prof|gen|col|lt|sgt|capt|rev|gov|sen|rep|st|jr|sr|vs|no|vol|fig|inc|corp|ltd|co|dept"
    r"|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|e\.g|i\.e|cf|etc|al|approx"
)
_SENTENCE_END = re.compile(r"""[.!?]+["'\u201d\u2019)\]]*\s+(?=["'\u201c\u2018(\[]*[A-Z0-9])""")


def sources(corpus: Path) -> list[Path]:
    """List the corpus's text files in a fixed order."""
    paths = sorted(corpus.glob("*.txt.xz"))
    if not paths:
        raise FileNotFoundError(f"no *.txt.xz file in {corpus}")
    return paths


def source_name(path: Path) -> str:
    """Name a source by its file name without the endings."""
    return path.name.removesuffix(".txt.xz")


def read_documents(path: Path) -> Iterator[Document]:
    """Stream one file's documents, each a list of paragraphs."""
    paragraphs: Document = []
    with lzma.open(path, "rt", encoding="utf-8", newline="\n") as lines:
        for line in lines:
            if line := line.strip():
                paragraphs.append(line)
            elif paragraphs:
                yield paragraphs
                paragraphs = []
    if paragraphs:
        yield paragraphs


def is_validation(document: Document) -> bool:
    """Say whether a document belongs to validation (about 1 %).

    Only the document's own text decides, so neither order nor other documents can move it from one side to the other.
    """
    digest = hashlib.blake2b("\n".join(document).encode(), digest_size=8, salt=SPLIT_SALT.encode()).digest()
    return int.from_bytes(digest, "big") % 1000 < VALIDATION_PER_MILLE


def documents(corpus: Path, split: str, only: Sequence[str] = ("",)) -> Iterator[Document]:
    """Stream the documents of "train", "validation" or "all" from the sources whose name starts with one of `only`."""
    if split not in ("train", "validation", "all"):
        raise ValueError(f"unknown split {split!r}")
    for path in sources(corpus):
        if source_name(path).startswith(tuple(only)):
            for document in read_documents(path):
                if split == "all" or is_validation(document) == (split == "validation"):
                    yield document


def split_sentences(paragraph: str) -> Iterator[str]:
    """Split a paragraph after `.`, `!` or `?` (and closing quotes) where a capital or a digit follows.

    A stop after a known abbreviation or a single letter ("U.S.", "George W.") does not end a sentence. The rule errs on
    the side of too few sentences, which costs a language model nothing.
    """
    start = 0
    for match in _SENTENCE_END.finditer(paragraph):
        words = paragraph[start : match.start()].rsplit(None, 1)
        last = words[-1].lstrip("\"'\u201c\u2018([").lower() if words else ""
        is_initial = len(last.rpartition(".")[2]) == 1 and last[-1:].isalpha() and last != "i"
        if paragraph[match.start()] == "." and (is_initial or _ABBREVIATION.fullmatch(last)):
            continue
        yield paragraph[start : match.end()].strip()
        start = match.end()
    if rest := paragraph[start:].strip():
        yield rest


def letters_and_digits(text: str) -> bytes:
    """Reduce a text to lower-case ASCII letters and digits, so that neither spacing nor punctuation hides a match."""
    return text.lower().encode("ascii", "ignore").translate(None, _NOT_ALNUM)


def window_hashes(text: bytes) -> np.ndarray:
    """Hash every window of 25 bytes, the polynomial modulo 2**64 built from windows of 1, 2, 4, 8 and 16."""
    if len(text) < MIN_CHARACTERS:
        return np.empty(0, np.uint64)
    base = 0x9E3779B97F4A7C15
    hashes = {1: np.frombuffer(text, np.uint8).astype(np.uint64)}
    for size in (1, 2, 4, 8):
        left, factor = hashes[size], np.uint64(pow(base, size, 2**64))
        hashes[2 * size] = left[:-size] * factor + left[size:]
    count = len(text) - MIN_CHARACTERS + 1
    upper = hashes[16][:count] * np.uint64(pow(base, 9, 2**64))
    middle = hashes[8][16 : 16 + count] * np.uint64(base)
    return upper + middle + hashes[1][24 : 24 + count]


class SentenceFinder:
    """Find any of many sentences (25 letters and digits or more) in a text."""

    def __init__(self, sentences: Iterable[str]) -> None:
        """Index the sentences by the hash of their first 25 letters and digits."""
        reduced = {letters_and_digits(sentence) for sentence in sentences}
        self.skipped = sum(len(text) < MIN_CHARACTERS for text in reduced)
        self._by_hash: dict[int, list[bytes]] = {}
        for text in sorted(text for text in reduced if len(text) >= MIN_CHARACTERS):
            self._by_hash.setdefault(int(window_hashes(text[:MIN_CHARACTERS])[0]), []).append(text)
        # A table over the hash's top bits leaves few windows for the exact comparison.
        self._table = np.zeros(1 << 24, bool)
        self._table[np.array(list(self._by_hash), np.uint64) >> np.uint64(40)] = True

    def __len__(self) -> int:
        """Count the distinct sentences looked for."""
        return sum(map(len, self._by_hash.values()))

    def find(self, text: str) -> set[bytes]:
        """Return the sentences, as letters and digits, that the text contains."""
        reduced = letters_and_digits(text)
        hashes = window_hashes(reduced)
        hits = set()
        for start in np.flatnonzero(self._table[hashes >> np.uint64(40)]):
            for sentence in self._by_hash.get(int(hashes[start]), ()):
                if reduced.startswith(sentence, int(start)):
                    hits.add(sentence)
        return hits


def read_mrpc_sentences(path: Path) -> list[str]:
    """Read both sentences of every pair of one MRPC file."""
    with path.open(encoding="utf-8", newline="\n") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [row[column] for row in rows for column in ("sentence1", "sentence2")]


def check(corpus: Path, mrpc: list[Path]) -> int:
    """Print how many evaluation sentences each source contains; return the number of documents with one."""
    finder = SentenceFinder(sentence for path in mrpc for sentence in read_mrpc_sentences(path))
    print(f"{len(finder)} distinct sentences of {MIN_CHARACTERS} letters and digits or more, {finder.skipped} shorter")
    hits = 0
    for path in sources(corpus):
        count = size = bad = 0
        for count, document in enumerate(read_documents(path), 1):
            text = "\n".join(document)
            size += len(text.encode())
            if sentences := finder.find(text):
                bad += 1
                shown = f"{len(sentences)} sentences, e.g. {min(sentences)[:60]!r}"
                print(f"HIT {source_name(path)} document {count}: {shown}")
        print(f"{source_name(path):16} {count:6} documents {size:12,} bytes {bad:4} with an evaluation sentence")
        hits += bad
    print(f"documents with an evaluation sentence: {hits}")
    return hits


def print_sources(corpus: Path) -> None:
    """Print documents, validation documents, bytes and words of each source as a Markdown table."""
    print("| source | documents | of them validation | bytes | words |\n| --- | ---: | ---: | ---: | ---: |")
    total = np.zeros(4, np.int64)
    for path in sources(corpus):
        row = np.zeros(4, np.int64)
        for document in read_documents(path):
            text = "\n".join(document)
            row += (1, is_validation(document), len(text.encode()), len(text.split()))
        total += row
        print(f"| {source_name(path)} | " + " | ".join(f"{number:,}" for number in row) + " |", flush=True)
    print("| all | " + " | ".join(f"{number:,}" for number in total) + " |")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("check", "sources"):
        command = commands.add_parser(name)
        command.add_argument("--corpus", type=Path, required=True, help="folder with the *.txt.xz files")
        if name == "check":
            command.add_argument("--mrpc", type=Path, nargs="+", required=True, help="MRPC .tsv files, all splits")
    args = parser.parse_args()
    if args.command == "sources":
        print_sources(args.corpus)
    elif check(args.corpus, args.mrpc):
        raise SystemExit("the corpus contains evaluation sentences")


if __name__ == "__main__":
    main()
