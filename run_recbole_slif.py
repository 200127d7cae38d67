"""Train, compare, search or report: `python run_recbole_slif.py --help` lists the commands."""

import sys

from recbole_slif.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
