"""The journal of a run: what is told to callbacks is recorded, and told to them again when the program is restarted.

Nothing here knows the run: `amltk.scheduling._run.journaled` connects the two.
"""
