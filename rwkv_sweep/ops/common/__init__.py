"""What operators and networks share: packed batches, row-wise 8 bits, streams of a CUDA graph, GEMMs by oneDNN."""
