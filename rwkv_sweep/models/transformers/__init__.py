"""Any network of the transformers library, run like an RWKV.

Packed sentences, layers handed over as they come, and an early exit where the network lets itself be cut.
"""
