"""The container's health check: exit status 0 if Limner accepts photos."""

import os
import sys
import urllib.request

PORT = os.environ.get("LIMNER_PORT", "8282")

# No proxy, because the server is on this machine.
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    with opener.open(f"http://127.0.0.1:{PORT}/readyz", timeout=4) as answer:
        sys.exit(0 if answer.status == 200 else 1)
except OSError as error:
    sys.exit(f"not ready: {error}")
