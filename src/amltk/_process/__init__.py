"""What this process has of its machine: CPUs, clocks, limits, threads, and how its program was started."""
