"""A Prometheus server for tests."""

import json
import math
import signal
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from tests.services.process import ServerProcess, find_program, free_port

CONFIG = Path(__file__).resolve().parents[2] / "deploy/prometheus/prometheus.yml"


class Prometheus:
    """Prometheus with `deploy/prometheus/prometheus.yml`, which asks every second, and these targets for its jobs."""

    def __init__(self, folder: Path, targets: dict[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        config = yaml.safe_load(CONFIG.read_text())
        config["global"] = dict.fromkeys(("scrape_interval", "scrape_timeout", "evaluation_interval"), "1s")
        config["rule_files"] = [str(CONFIG.parent / name) for name in config["rule_files"]]
        jobs = {job["job_name"] for job in config["scrape_configs"]}
        assert set(targets) <= jobs, f"{CONFIG.name} has the jobs {jobs}"
        config["scrape_configs"] = [
            {"job_name": name, "static_configs": [{"targets": [target]}]} for name, target in targets.items()
        ]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.process = ServerProcess(
            [
                find_program("prometheus"),
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--log.level=warn",
            ],
            self._is_ready,
            folder / "prometheus.log",
            stop_signal=signal.SIGKILL,  # asked to end, it waits for ten seconds
        )

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The series of an instant query that have a number as value. AssertionError if it is no valid query."""
        address = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        with urllib.request.urlopen(address, timeout=5) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return [series for series in found if not math.isnan(float(series["value"][1]))]

    def rules(self) -> dict[str, str]:
        """The state of each alert rule: `inactive`, `pending` or `firing`; or the error of its evaluation."""
        with urllib.request.urlopen(f"{self.url}/api/v1/rules", timeout=5) as answer:
            groups = json.load(answer)["data"]["groups"]
        return {rule["name"]: rule.get("lastError") or rule["state"] for group in groups for rule in group["rules"]}

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
