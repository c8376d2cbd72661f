"""Executors of this package and of the standard library: processes, threads, the caller's own thread."""
