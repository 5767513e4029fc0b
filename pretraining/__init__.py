"""Scripts that make the project's own tokenizer, word vectors and language model from a plain-text corpus."""
