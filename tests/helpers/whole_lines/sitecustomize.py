"""Loaded by test programs at startup: processes that share a pipe print whole lines, each in one write."""

import sys

if sys.stdout is not None:
    sys.stdout.reconfigure(line_buffering=True, write_through=False)
