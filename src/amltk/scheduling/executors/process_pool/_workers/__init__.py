"""Worker processes seen from the pool: how they start, what they use, and how they end."""
