"""The state of the pool without I/O: which worker gets the next call, the frames of the protocol, the outcomes."""
