"""RWKV-5 ("Eagle", arXiv 2404.05892): sizes, blocks, checkpoints, what runs on a CPU and on a GPU.

Its operator is RWKV-6's with a decay that does not depend on the token.
"""
