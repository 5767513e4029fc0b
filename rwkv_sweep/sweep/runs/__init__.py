"""One run: what is asked of it checked, measured in this process or in one of its own, recorded, tracked.

What concerns several runs of a sweep belongs to `sweep`.
"""
