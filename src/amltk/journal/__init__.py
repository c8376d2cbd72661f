"""The folder of an experiment, in which a run writes down what it is told: its format, a reader, a writer and tools.

Knows no scheduler.
"""
