"""What a machine has: devices, which GPU a job takes, and what is recorded about the environment."""
