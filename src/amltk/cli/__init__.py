"""The command `amltk`: looks at the journals of experiments, and sees to them.

`main.py` has the arguments; each other file has commands of one kind, as functions that print and return the exit code.
"""
