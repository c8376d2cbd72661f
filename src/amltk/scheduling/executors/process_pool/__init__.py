"""The local process pool: losing a worker costs only the call that it was running."""
