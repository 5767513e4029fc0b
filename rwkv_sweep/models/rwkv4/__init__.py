"""RWKV-4 ("Dove", arXiv 2305.13048): sizes, blocks, checkpoints, what runs on a CPU."""
