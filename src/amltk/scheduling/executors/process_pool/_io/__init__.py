"""The pool's traffic with its workers: calls out, outcomes in, limits watched."""
