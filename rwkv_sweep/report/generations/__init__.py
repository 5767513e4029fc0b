"""Several models side by side: quality by relative depth, time a token, memory."""
