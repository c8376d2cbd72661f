"""What a call is recognised by in later sessions: its task, and its arguments in one form for all that are equal."""
