"""Quality: scores of pairs, correlations with labels, baselines, and parity with fp32.

Speed and memory belong to profiling; bootstrap and corrections for many comparisons to stats.
"""
