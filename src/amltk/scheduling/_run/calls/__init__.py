"""What becomes of one call in a run: it is submitted, reviewed by plugins, and ended exactly once."""
