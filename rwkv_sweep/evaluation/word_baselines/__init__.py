"""What the baselines read: word vectors from their published files, and plain word overlap.

How a baseline is scored belongs to `evaluation.baselines`.
"""
