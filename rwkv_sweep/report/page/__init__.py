"""The page of a sweep: one HTML file with its data, style and scripts."""
