"""`python -m agent.describe [--check]`."""

import sys

from agent.describe import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
