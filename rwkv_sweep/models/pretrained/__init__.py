"""Weights and tokenizers as others publish them: where they lie, and how their files are read.

What the tensors mean belongs to the package of each generation.
"""
