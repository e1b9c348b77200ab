"""`python -m convlens.cli`: the same as `convlens`."""

import sys

from convlens.cli.main import main

sys.exit(main())
