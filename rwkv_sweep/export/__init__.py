"""A run's encoder for use elsewhere: a folder that stands alone, and what other programs load it by; texts of a file to
vectors in a file.
"""
