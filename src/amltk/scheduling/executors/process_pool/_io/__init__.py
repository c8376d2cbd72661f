"""The pool's I/O with its workers: calls out, outcomes in, limits watched."""
