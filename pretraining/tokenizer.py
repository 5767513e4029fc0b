"""Train a small byte-level BPE tokenizer, report on several, and encode the corpus with one.

What: `train` learns a `tokenizer.json` from a fixed sample of train documents; `report` prints tokens per word and
bytes per token on Wikinews validation documents, and tokens per sentence on MRPC validation; `encode` writes the corpus
as arrays of uint16 ids, each document followed by `<|endoftext|>` (id 0).

Why: a small model has few ids to spend. Digits stand alone, the first word of a text gets the same token as a word
inside one, and with `--join-punctuation` the normalizer writes plain text and MRPC's spaced text ("company 's", "he
said .") nearly always the same way, so the model sees one form only. Everything is inside `tokenizer.json`.

Commands (RAYON_NUM_THREADS=2 limits the threads):
    python -m pretraining.tokenizer train --corpus DIR --vocab-size 1024 2048 4096 --join-punctuation --out FOLDER
    python -m pretraining.tokenizer report --corpus DIR --mrpc DIR FILE.json ...
    python -m pretraining.tokenizer encode --corpus DIR --tokenizer FILE.json --out FOLDER
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from pretraining.corpus import Document, documents, read_mrpc_sentences, source_name, sources

SEED = 20261121
END_OF_TEXT = "<|endoftext|>"

# GPT-2's pattern, but one digit at a time, and a clitic only where no letter follows ('t, not 't of 'tis).
_PIECES = r"'(?:[sdmt]|ll|ve|re)(?!\p{L})| ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# Steps to one form for plain and for tokenised text: (pattern, replacement), in this order. What encloses or links
# words gets spaces around, so that the word after it keeps its usual token; what follows a word is joined to it.
# First quotes and dashes become ASCII.
_JOIN = (
    ("[\u201c\u201d\u201e]|``|''|(?<= )' '(?= |$)", '"'),
    ("[\u2018\u2019\u201b\u00b4`]", "'"),
    (" *(?:\u2014|--+|(?<= )[\u2013_-](?= )) *", " -- "),
    ("[\u2010\u2011\u2013\u2212]", "-"),
    (r"(?<=\w)-(?=\w)", " - "),
    ('"', ' " '),
    ("&", " & "),
    ("/", " / "),
    (r"\(", " ( "),
    (r"\[", " [ "),
    ("<", " < "),
    (r"\$", " $"),
    (r"(?<=[$£€#]) +", ""),
    (r" +(?=[,;:?!%)\]>]|\.(?!\w))", ""),
    (r"(?<=\d:) (?=\d)", ""),
    (r"(?i)(?<=[\w.]) *' ?(?=(?:[sdmt]|ll|ve|re)(?!\w))", "'"),
    (r"(?i)(?<=\b[odl]) +(?='\p{L})", ""),
    (r"(?<=s) +(?='(?: |$))", ""),
    (r"[ \t]+", " "),
)


def make_normalizer(lowercase: bool, join_punctuation: bool) -> normalizers.Normalizer:
    """Build the normalizer; the last steps begin every line with a space, as a word inside a line has one before it."""
    steps: list[normalizers.Normalizer] = []
    if join_punctuation:  # before NFKC, which would take a lone accent used as an apostrophe apart
        steps += [normalizers.Replace(Regex(pattern), content) for pattern, content in _JOIN]
    steps.append(normalizers.NFKC())
    if lowercase:
        steps.append(normalizers.Lowercase())
    steps += [normalizers.Strip(), normalizers.Prepend(" "), normalizers.Replace(Regex(r"\s*\n\s*"), "\n ")]
    return normalizers.Sequence(steps)


def make_tokenizer(lowercase: bool, join_punctuation: bool) -> Tokenizer:
    """Build a tokenizer that has yet to learn its merges."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = make_normalizer(lowercase, join_punctuation)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            # Only maps bytes to letters: its own prefix space would go before every piece split off above.
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def sample_paragraphs(corpus: Path, megabytes: float) -> Iterator[str]:
    """Yield train paragraphs in a fixed random order, about the same number of bytes from each source."""
    paths = sources(corpus)
    for index, path in enumerate(paths):
        paragraphs = [text for document in documents(corpus, "train", [source_name(path)]) for text in document]
        left = megabytes * 1e6 / len(paths)
        for row in np.random.default_rng(SEED + index).permutation(len(paragraphs)):
            if left <= 0:
                break
            left -= len(paragraphs[row].encode())
            yield paragraphs[row]


def train(
    paragraphs: Iterator[str], vocab_size: int, lowercase: bool = True, join_punctuation: bool = True
) -> Tokenizer:
    """Learn a tokenizer of `vocab_size` ids, all 256 bytes and `<|endoftext|>` (0) among them."""
    if not 257 <= vocab_size <= 1 << 16:
        raise ValueError("the vocabulary must hold all bytes and fit uint16")
    tokenizer = make_tokenizer(lowercase, join_punctuation)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(paragraphs, trainer)
    if tokenizer.token_to_id(END_OF_TEXT) != 0 or tokenizer.get_vocab_size() > vocab_size:
        raise RuntimeError("unexpected vocabulary")
    return tokenizer


def truncate(tokenizer: Tokenizer, vocab_size: int) -> Tokenizer:
    """Keep the first ids only. Merges are learnt one by one, so training for fewer ids would give the same."""
    data = json.loads(tokenizer.to_str())
    vocabulary, merges = data["model"]["vocab"], data["model"]["merges"]
    data["model"]["merges"] = list(itertools.takewhile(lambda pair: vocabulary["".join(pair)] < vocab_size, merges))
    data["model"]["vocab"] = {token: row for token, row in vocabulary.items() if row < vocab_size}
    return Tokenizer.from_str(json.dumps(data))


def same_form(tokenizer: Tokenizer, spaced: Path, plain: Path) -> float:
    """Say for which share of MRPC's sentences the spaced and the plain form get the same ids."""
    pairs = zip(read_mrpc_sentences(spaced), read_mrpc_sentences(plain), strict=True)
    return float(np.mean([tokenizer.encode(one).ids == tokenizer.encode(two).ids for one, two in pairs]))


def report(corpus: Path, mrpc: Path, files: list[Path]) -> None:
    """Print a Markdown table of all tokenizers given. Words are what spaces separate in the plain text."""
    texts = ["\n".join(document) for document in documents(corpus, "validation", ["wikinews"])]
    words, size = sum(len(text.split()) for text in texts), sum(len(text.encode()) for text in texts)
    sentences = read_mrpc_sentences(mrpc / "validation.tsv")
    print(f"{len(texts)} Wikinews validation documents, {words:,} words; {len(sentences)} MRPC validation sentences")
    print("| tokenizer | ids | tokens per word | bytes per token | tokens per MRPC sentence | longest | same ids |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for file in files:
        tokenizer = Tokenizer.from_file(str(file))
        count = sum(len(tokenizer.encode(text).ids) for text in texts)
        lengths = [len(tokenizer.encode(sentence).ids) for sentence in sentences]
        same = same_form(tokenizer, mrpc / "train.tsv", mrpc / "raw" / "train.tsv")
        print(
            f"| {file.stem} | {tokenizer.get_vocab_size()} | {count / words:.3f} | {size / count:.3f} "
            f"| {np.mean(lengths):.2f} | {max(lengths)} | {same:.1%} |",
            flush=True,
        )


def encode(corpus: Path, file: Path, out: Path, only: list[str]) -> None:
    """Write `train.npy` and `validation.npy`."""
    tokenizer = Tokenizer.from_file(str(file))
    out.mkdir(parents=True, exist_ok=True)
    for split in ("train", "validation"):
        parts: list[np.ndarray] = []
        batch: list[Document] = []
        for document in documents(corpus, split, only):
            batch.append(document)
            if len(batch) == 512:
                parts += encode_batch(tokenizer, batch)
                batch = []
        ids = np.concatenate([*parts, *encode_batch(tokenizer, batch)])
        np.save(out / f"{split}.npy", ids)
        print(f"{out / split}.npy: {len(ids):,} tokens", flush=True)


def encode_batch(tokenizer: Tokenizer, batch: list[Document]) -> Iterator[np.ndarray]:
    """Encode documents, the separator at the end of each.

    Paragraphs are encoded one by one, with the newline's token between: the same ids as for whole documents, quicker.
    """
    newline = tokenizer.get_vocab()["\u010a"]  # the byte-level letter of the newline
    encodings = iter(tokenizer.encode_batch_fast([paragraph for document in batch for paragraph in document]))
    for document in batch:
        ids: list[int] = []
        for encoding in itertools.islice(encodings, len(document)):
            ids += [*encoding.ids, newline]
        ids[-1] = 0
        yield np.array(ids, np.uint16)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    trainer, reporter, encoder = (commands.add_parser(name) for name in ("train", "report", "encode"))
    for command in (trainer, reporter, encoder):
        command.add_argument("--corpus", type=Path, required=True)
    trainer.add_argument("--vocab-size", type=int, nargs="+", required=True)
    trainer.add_argument("--lowercase", action=argparse.BooleanOptionalAction, default=True)
    trainer.add_argument("--join-punctuation", action=argparse.BooleanOptionalAction, default=False)
    trainer.add_argument("--megabytes", type=float, default=60.0, help="size of the sample of train documents")
    trainer.add_argument("--out", type=Path, required=True, help="folder for a .json of each size")
    reporter.add_argument("--mrpc", type=Path, required=True)
    reporter.add_argument("files", type=Path, nargs="+")
    encoder.add_argument("--tokenizer", type=Path, required=True)
    encoder.add_argument("--only", nargs="+", default=[""], help="take the sources whose name starts so")
    encoder.add_argument("--out", type=Path, required=True, help="folder for train.npy and validation.npy")
    args = parser.parse_args()
    if args.command == "train":
        sample = sample_paragraphs(args.corpus, args.megabytes)
        largest = train(sample, max(args.vocab_size), args.lowercase, args.join_punctuation)
        variant = ("lower" if args.lowercase else "cased") + "-joined" * args.join_punctuation
        args.out.mkdir(parents=True, exist_ok=True)
        for size in args.vocab_size:
            truncate(largest, size).save(str(args.out / f"{size}-{variant}.json"))
    elif args.command == "report":
        report(args.corpus, args.mrpc, args.files)
    else:
        encode(args.corpus, args.tokenizer, args.out, args.only)


if __name__ == "__main__":
    main()
