"""The container's health check: exit status 0 if Limner accepts photos, or with `worker`, if worker processes run."""

import os
import re
import sys
import urllib.request


def get(port: str, path: str) -> str:
    # No proxy, because the server is on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}{path}", timeout=4) as answer:
        text: str = answer.read().decode()
        return text


try:
    if sys.argv[1:] == ["worker"]:
        metrics = get(os.environ["LIMNER_WORKER_METRICS_PORT"], "/metrics")
        workers = re.search(r"^limner_workers ([\d.e+]+)$", metrics, re.MULTILINE)
        if workers is None or not float(workers[1]):
            sys.exit("not ready: no worker process has its models")
    else:
        get(os.environ.get("LIMNER_PORT", "8282"), "/readyz")
except OSError as error:
    sys.exit(f"not ready: {error}")
