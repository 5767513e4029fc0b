"""Two sweeps side by side: which runs match, by how much they differ, and their page."""
