"""What a layer's vectors look like without labels: pure functions on vectors that lie in memory.

`docs/metrics.md` has each formula and its source. Metrics of a sentence's tokens lie in
`rwkv_sweep.embedding.token_statistics`, as they must be taken while the tokens are there.
"""
