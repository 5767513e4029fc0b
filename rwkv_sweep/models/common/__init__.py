"""What all generations of RWKV share: sizes, packed batches through the blocks, early exit, layers handed over.

What one generation computes belongs to its own package; a further generation needs no edit here.
"""
