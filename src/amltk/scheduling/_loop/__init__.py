"""What a run needs from asyncio and the interpreter: inputs in order, timers, redraws, signals, forks, nested loops."""
