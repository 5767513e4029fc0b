"""What is between a block's GEMMs on a CPU, compiled by Numba: few passes over memory instead of many."""
