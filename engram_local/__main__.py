"""`python -m engram_local` = `engram-local`."""

import sys

from engram_local.cli import main

if __name__ == "__main__":
    sys.exit(main())
