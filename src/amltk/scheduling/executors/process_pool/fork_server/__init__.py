"""Where workers are forked: a small process that only forks, and one forked from it that has imported what calls need.

These modules run in processes of their own, so they import little: `messages` is what the pool and the server say to each
other, `server` the process that all workers are children of, `warm` the one that imports, `fitness` what may not be
imported there, `descendants` how processes are found and ended.
"""
