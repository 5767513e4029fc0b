"""Triton kernels for what is between a block's GEMMs. Imported only where they run: they need Triton."""
