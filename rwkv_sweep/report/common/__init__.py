"""What all reports use: runs grouped and named, what may be compared with what, statements, text.

What one research question alone needs belongs to its package.
"""
