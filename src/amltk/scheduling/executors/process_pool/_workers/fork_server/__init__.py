"""The processes that start workers: a small one that only forks, and one forked from it that has imported modules.

What runs there imports little, so that it starts fast. `messages` is what the pool and these processes say to each
other, `server` the parent of all workers, `warm` the process with the imports, `fitness` what must not be imported
there, `supervisor` the parent of a worker that is a copy of the pool's process, `descendants` how processes are found
and ended.
"""
