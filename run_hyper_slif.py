"""Search hyper-parameters on the validation metric: `python run_hyper_slif.py --help`."""

import sys

from recbole_slif.__main__ import main

if __name__ == "__main__":
    sys.exit(main(["hyper", *sys.argv[1:]]))
