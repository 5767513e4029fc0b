"""Small helpers that know nothing of sweeps: console, files, secrets, signals, processes, stage timers."""
