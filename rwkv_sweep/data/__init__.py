"""Sentence pairs: readers of files, splits and slices, columns of text.

Tokens belong to embedding, scores to evaluation.
"""
