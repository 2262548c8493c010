"""``python -m naspix``: the command."""

import sys

from naspix.cli import main

if __name__ == "__main__":
    sys.exit(main())
