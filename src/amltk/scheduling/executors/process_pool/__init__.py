"""The local engine: worker processes, of which a lost one costs one call."""
