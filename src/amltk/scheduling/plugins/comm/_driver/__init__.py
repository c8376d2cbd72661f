"""The driver's side of comms: one listener for a run, its connections, and the conversation with each call."""
