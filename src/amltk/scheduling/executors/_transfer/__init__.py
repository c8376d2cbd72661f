"""How calls, results and exceptions are pickled for another process, and what is said of those that cannot be."""
