"""What the end of a sweep makes of its records, once, for the terminal, `summary.md` and the page alike."""
