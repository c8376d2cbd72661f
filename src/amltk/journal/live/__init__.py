"""What a journal says, kept up to date while it grows: for a terminal, a page and a report, all from one model.

`follower.py` reads; the other files each keep one thing, in memory that hardly grows with the number of calls. Nothing
here unpickles a value.
"""
