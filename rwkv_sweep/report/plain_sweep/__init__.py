"""The answer of a sweep without a research question of its own."""
