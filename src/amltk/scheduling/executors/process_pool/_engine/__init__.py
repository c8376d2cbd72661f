"""The engine of a pool: requests from any thread, the turns that exchange calls for outcomes, and the pool's thread."""
