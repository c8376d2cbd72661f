"""`python -m amltk` is the command `amltk`."""

import sys

from amltk.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
