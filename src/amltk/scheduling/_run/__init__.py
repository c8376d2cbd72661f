"""One run, from `@start` to `@finished`. `run` puts its parts together; each part says what it owns, and for whom.

`calls` takes submissions to the executor and outcomes to the callbacks. What happens to a run arrives through the inbox
of `amltk.scheduling._loop`, on the loop's thread.
"""
