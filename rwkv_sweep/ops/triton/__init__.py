"""Triton kernels for what lies between a block's matrix products. Imported only where they run: they need Triton."""
