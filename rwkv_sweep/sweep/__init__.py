"""What happens around the jobs of a sweep and inside one: checks, order, resuming, failures, the run itself.

How vectors are made, scored and timed belongs to embedding, evaluation and profiling.
"""
