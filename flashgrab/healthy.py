"""Is a part well? `python -m flashgrab.healthy URL`: exit 0 where it answers 200, else 1.

For health checks of containers, whose images have no curl. Standard library only: it runs every few
seconds, and the start of Python is most of what it costs.
"""

import http.client
import sys
from urllib.parse import urlsplit

WITHIN_S = 2.0


def is_well(url: str) -> bool:
    """Whether GET answers 200 in time."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=WITHIN_S)
    try:
        connection.request("GET", parts.path or "/")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(0 if len(sys.argv) == 2 and is_well(sys.argv[1]) else 1)
