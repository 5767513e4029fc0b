"""Research question 2: what quantizing layers does to quality against speed and memory."""
