"""Operators: what runs between the matrix products of a network, each in several forms."""
