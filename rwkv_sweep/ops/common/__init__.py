"""What operators and networks share: packed batches, rows in 8 bits, streams of a CUDA graph, GEMMs by oneDNN."""
