"""`python -P -m flashgrab.cli …`: how `up` starts the parts, whatever folders lie around."""

import sys

from flashgrab.cli.app import main

sys.exit(main())
