"""Triton kernels of quantized layers: rows quantized, 8-bit products, LLM.int8."""
