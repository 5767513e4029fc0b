"""RWKV-7 ("Goose", arXiv 2503.14456): sizes, blocks, network, checkpoint layouts, random weights."""
