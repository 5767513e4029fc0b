"""From sentences to vectors: prompts, packed batches, pooling, aggregation, post-processing, and the cache of vectors.

Networks belong to models, operators to ops.
"""
