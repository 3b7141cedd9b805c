"""`python -P -m gateway FD`: one of several gateway processes, started by their parent."""

import sys

from flashgrab.start import lean

lean()

from gateway.serve import child  # noqa: E402 -- a lean start comes before the large imports

child(int(sys.argv[1]))
