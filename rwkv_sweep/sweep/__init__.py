"""What happens around the jobs of a sweep: checks, order, its folder, its end; one job is in `sweep.runs`.

How vectors are made, scored and timed belongs to embedding, evaluation and profiling.
"""
