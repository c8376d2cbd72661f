"""What a plain loop over results needs: a run that advances only when the loop asks, and the ended calls to take."""
