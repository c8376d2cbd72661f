"""Experiments as a web page: served while they go on, or as one file.

`facts.py` says what a page shows, as plain data; `report.py` makes one file of it. `app.py` serves it and `serve.py`
runs that server: these two need the extra `amltk[web]`. `guard.py` decides which requests it answers. `assets/` has the
page.
"""
