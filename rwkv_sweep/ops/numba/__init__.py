"""What lies between a block's matrix products on a CPU, compiled by Numba: few passes over memory instead of many."""
