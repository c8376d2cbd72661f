"""What calls wait for before a worker gets them: pools of resources, requests, grants, and whose turn it is.

Pure data: no loop, no threads, no executor. `_run/calls/admission.py` uses it in a run.
"""
