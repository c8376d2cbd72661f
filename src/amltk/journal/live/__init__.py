"""The state of an experiment, kept up to date as its journal grows: one model for the terminal, page and report.

`follower.py` reads; each of the other files keeps one aspect, in memory that hardly grows with the number of calls.
Nothing here unpickles a value.
"""
