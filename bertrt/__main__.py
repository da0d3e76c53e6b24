"""`python -m bertrt`: the command line."""

import sys

from bertrt.cli import main

sys.exit(main())
