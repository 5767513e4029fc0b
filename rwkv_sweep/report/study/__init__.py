"""The study that this program reproduces: what it reported, beside what a sweep measured."""
