"""What a run needs of asyncio and of the interpreter: inputs in order, timers, signals, nested loops. Knows no run."""
