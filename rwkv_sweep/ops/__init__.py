"""Operators and nothing else: the WKV recurrence in its forms, and kernels for what is between the GEMMs.

They know tensors, not models or configs.
"""
