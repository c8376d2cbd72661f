"""What a run needs from asyncio and the interpreter: inputs in order, timers, signals, forks, nested loops."""
