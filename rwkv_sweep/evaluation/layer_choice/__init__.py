"""Choosing on one split what is scored on another: learned weights of layers, the configuration that wins, a search."""
