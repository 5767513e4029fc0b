"""`python -m rwkv_sweep`: a sweep, or another command; the same as `rwkv-sweep`."""

from __future__ import annotations

from rwkv_sweep.cli import main

if __name__ == "__main__":
    main()
