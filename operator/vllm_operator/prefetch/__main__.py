"""`python3 -m prefetch`, in the folder above."""

import sys

from .program import main

sys.exit(main())
