"""What the class `Scheduler` is made of: a base class for each of its jobs.

`executor_owner` has the executor, `current_run` knows the run in progress, `runs` makes one run after another.
"""
