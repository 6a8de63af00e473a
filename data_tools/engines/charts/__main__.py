"""python -m data_tools.engines.charts."""

import sys

from .engine import main

sys.exit(main())
