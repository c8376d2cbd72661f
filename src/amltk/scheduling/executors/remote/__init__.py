"""Executors over the workers of other libraries, on this machine or others."""
