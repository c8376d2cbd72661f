"""Views of schedulers, tasks and runs. The only part of the package that imports rich; nothing else depends on it.

`trees` draws a scheduler and its tasks, `live` shows a run as it happens, `export` turns both into HTML and SVG.
"""
