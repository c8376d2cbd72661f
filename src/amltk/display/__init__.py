"""Views of schedulers, tasks and runs. The only part of the package that imports rich; nothing else depends on it.

`trees` draws what a scheduler is, `live` what happens in a run, `export` turns both into HTML and SVG.
"""
