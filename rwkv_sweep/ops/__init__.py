"""Operators and nothing else: the WKV recurrence in its forms, and kernels for what lies between matrix products.

They know tensors, not models or configs.
"""
