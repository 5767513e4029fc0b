"""Tasks of `mteb`: their data, encoders as `mteb` takes them, scores of several runs or layers side by side."""
