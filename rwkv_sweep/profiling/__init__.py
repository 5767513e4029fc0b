"""How fast a configuration runs, how much memory and energy it takes: everything that is measured by running it.

Quality belongs to the evaluation, and tables, plots and conclusions to the report. Nothing here is read from a cache.
"""
