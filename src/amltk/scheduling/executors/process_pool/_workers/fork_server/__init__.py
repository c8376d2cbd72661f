"""The processes that start workers: a small one that only forks, and one forked from it that has imported modules.

Code that runs there imports little, so that it starts fast. `messages` has the messages between the pool and these
processes, `server` is the parent of all workers, `warm` is the process with the imports, `warm_processes` decides for
the server which of these workers are forked from, `fitness` detects what must not be imported there, and `supervisor`
is the parent of a worker that is a copy of the pool's process.
"""
