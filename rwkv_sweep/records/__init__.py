"""What runs and sweeps leave on disk, and how it is read again.

MLflow belongs to tracking.
"""
