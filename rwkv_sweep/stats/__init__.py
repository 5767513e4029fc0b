"""Bootstrap, intervals and corrections for many comparisons: statistics that know no run."""
