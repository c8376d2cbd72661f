"""Where a run can be shown: terminals, notebooks, and output that takes only lines."""
