"""Unigram and bigram cross-entropy of a token array, to stand beside a language model's validation loss.

What: counts tokens and pairs of the train array with numpy and prints, in nats per token of the validation array, the
unigram model (add-one), the interpolated bigram with one weight fitted on held-out train tokens, and the interpolated
Kneser-Ney bigram. The first token of the validation array is predicted by no bigram and is left out everywhere.

Why: a language model is worth keeping only if it beats what two neighbouring tokens already tell.

Command (`train.npy` and `validation.npy` are uint16 ids, written by `python -m pretraining.tokenizer encode`):
    python -m pretraining.ngrams --train FOLDER/train.npy --validation FOLDER/validation.npy --vocab-size 2048
"""

import argparse
from pathlib import Path

import numpy as np

HELD_OUT = 0.02
CHUNK = 1 << 22


def count_pairs(tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    """Count neighbouring tokens as a matrix [previous, next], in chunks so that memory stays small."""
    counts = np.zeros(vocab_size * vocab_size, np.int32)
    for start in range(0, len(tokens) - 1, CHUNK):
        chunk = tokens[start : start + CHUNK + 1].astype(np.int64)
        # Sorting a chunk's codes is quicker than a bincount as wide as the square of the vocabulary.
        codes, numbers = np.unique(chunk[:-1] * vocab_size + chunk[1:], return_counts=True)
        counts[codes] += numbers.astype(np.int32)
    return counts.reshape(vocab_size, vocab_size)


def count_tokens(tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    """Count tokens."""
    parts = [np.bincount(tokens[start : start + CHUNK], minlength=vocab_size) for start in range(0, len(tokens), CHUNK)]
    return np.sum(parts, axis=0)


def unigram(tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    """Estimate token probabilities, one added to every count so that none is zero."""
    counts = count_tokens(tokens, vocab_size) + 1.0
    return counts / counts.sum()


def fit_weight(conditional: np.ndarray, backing: np.ndarray, steps: int = 50) -> float:
    """Fit the weight of two models' mixture to held-out probabilities by expectation maximisation."""
    weight = 0.5
    for _ in range(steps):
        mixed = weight * conditional + (1 - weight) * backing
        weight = float(np.mean(weight * conditional / mixed))
    return weight


def at(matrix: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Look up the entry of every pair of neighbouring tokens."""
    return matrix[tokens[:-1], tokens[1:]]


def interpolated_bigram(train: np.ndarray, validation: np.ndarray, vocab_size: int) -> tuple[float, float]:
    """Mix relative pair frequencies with the unigram model; return the cross-entropy and the bigram's weight.

    The weight is fitted on the last tokens of train; the counts are those of the tokens before them.
    """
    cut = len(train) - max(2, int(len(train) * HELD_OUT))
    single = unigram(train[:cut], vocab_size)
    pairs = count_pairs(train[:cut], vocab_size)
    rows = np.maximum(pairs.sum(axis=1), 1)
    scored = []
    for tokens in (train[cut:], validation):
        scored.append((at(pairs, tokens) / rows[tokens[:-1]], single[tokens[1:]]))
    weight = fit_weight(*scored[0])
    conditional, backing = scored[1]
    return float(-np.log(weight * conditional + (1 - weight) * backing).mean()), weight


def kneser_ney_bigram(train: np.ndarray, validation: np.ndarray, vocab_size: int) -> float:
    """Cross-entropy of the interpolated Kneser-Ney bigram with one absolute discount, n1 / (n1 + 2 n2)."""
    pairs = count_pairs(train, vocab_size)
    once, twice = int((pairs == 1).sum()), int((pairs == 2).sum())
    discount = once / (once + 2 * twice) if once else 0.5
    # How many different tokens a token follows, one added so that a token never seen has a probability.
    continuation = (pairs > 0).sum(axis=0) + 1.0
    continuation /= continuation.sum()
    rows = pairs.sum(axis=1)
    left_over = np.where(rows > 0, discount * (pairs > 0).sum(axis=1) / np.maximum(rows, 1), 1.0)
    before, after = validation[:-1], validation[1:]
    kept = np.maximum(at(pairs, validation) - discount, 0) / np.maximum(rows, 1)[before]
    return float(-np.log(kept + left_over[before] * continuation[after]).mean())


def cross_entropies(train: np.ndarray, validation: np.ndarray, vocab_size: int) -> dict[str, float]:
    """Return all figures in nats per token, and the interpolation's weight."""
    if max(train.max(), validation.max()) >= vocab_size:
        raise ValueError("a token id does not fit the vocabulary size")
    bigram, weight = interpolated_bigram(train, validation, vocab_size)
    return {
        "unigram": float(-np.log(unigram(train, vocab_size)[validation[1:]]).mean()),
        "bigram, interpolated": bigram,
        "bigram, interpolation weight": weight,
        "bigram, Kneser-Ney": kneser_ney_bigram(train, validation, vocab_size),
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--validation", type=Path, required=True)
    parser.add_argument("--vocab-size", type=int, required=True)
    args = parser.parse_args()
    train, validation = np.load(args.train, mmap_mode="r"), np.load(args.validation, mmap_mode="r")
    print(f"train {len(train):,} tokens, validation {len(validation):,} tokens; nats per token")
    for name, value in cross_entropies(train, validation, args.vocab_size).items():
        print(f"{name:30} {value:.4f}")


if __name__ == "__main__":
    main()
