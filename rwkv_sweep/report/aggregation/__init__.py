"""Research question 1: what aggregating layers costs against final-layer inference, and what it brings."""
