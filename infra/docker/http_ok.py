"""Exit 0 if a URL answers with a status below 400, else 1: the health check of a container without curl."""

import sys
import urllib.request

try:
    with urllib.request.urlopen(sys.argv[1], timeout=5):  # noqa: S310 - the URL is our own, from compose.yaml
        pass
except OSError as error:
    sys.exit(str(error))
