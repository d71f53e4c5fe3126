"""The verdict, from outside: over HTTP, and by our own reading of the database's rows, the folder and the logs."""

import hashlib
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import httpx
import psycopg

from tests.chaos.clients import Clients
from tests.chaos.ledger import FINAL
from tests.chaos.stack import Stack, all_processes
from tests.journeys.receiver import Receiver

SETTLE_S = 150.0
OLD_S = 7200.0
VERIFIED = 8
ENDS = frozenset(f"job.{status}" for status in FINAL)
LIFE = re.compile(r"(Q(RP*Q)*(R?P*)?[SFC])|S")
"""The events of a job: it is queued, may run and be queued again, and ends once; or it is answered from the cache."""
LETTERS = {
    f"job.{name}": name[0].upper() for name in ("queued", "running", "progress", "succeeded", "failed", "cancelled")
}
EXPECTED_ERRORS = re.compile(
    "a web process cannot start|a worker cannot start|could not be reached|cannot listen|Error: Bad settings"
    "|consumer: Cannot connect to redis"
    # Celery ends a worker whose Redis refuses commands (its disk is full), or goes away while it connects.
    "|Unrecoverable error: server:ResponseError|object has no attribute 'hostname'|Error on (terminating|stopping) Hub"
    # redis-py reads on in a connection that was closed while it waited.
    r"|ack_log_error of .* raised exception: ValueError\('I/O operation on closed file"
    "|Couldn't (ack|reject) |Worker exited prematurely: signal (9|14) "
    r"|No such file or directory: '/tmp/limner-\w+/\w+\.db'"  # a web process that starts while its supervisor is killed
    "|was not ready in time; keeping worker"  # uvicorn's rolling restart, while the database was away
)
"""Log lines of level ERROR, and Celery's tracebacks, that say what was done to the service, and no more."""


class Verdict:
    """Collects figures, and what is wrong."""

    def __init__(self, stack: Stack, clients: Clients, receiver: Receiver) -> None:
        self.figures: dict[str, int] = {}
        self.wrong: dict[str, list[str]] = defaultdict(list)
        self._stack, self._clients, self._receiver = stack, clients, receiver
        self._ledger = clients.ledger

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of the database."""
        with psycopg.connect(self._stack.database_url, autocommit=True, connect_timeout=5) as connection:
            return connection.execute(query.encode()).fetchall()

    def find(self) -> None:
        """Wait until nothing moves, then look at everything. The web and the workers are stopped at the end."""
        for look in (
            self._settle,
            self._clients.stop,
            self._check_clients,
            self._check_jobs,
            self._check_followers,
            self._check_webhooks,
            self._check_erased,
            self._check_artifacts,
            self._check_bytes,
            self._check_end,
            self._check_logs,
        ):
            began = time.monotonic()
            look()
            print(f"{time.monotonic() - began:7.1f} s  {look.__name__.strip('_').replace('_', ' ')}", flush=True)

    # --- waiting -----------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """Wait until all jobs have ended, all webhooks are sent and all listeners have seen everything."""
        deadline = time.monotonic() + SETTLE_S
        began = time.monotonic()
        while left := self._left():
            if time.monotonic() > deadline:
                for each in left:
                    self.wrong["never settled"].append(each)
                break
            time.sleep(0.5)
        self.figures["seconds to settle"] = round(time.monotonic() - began)

    def _left(self) -> list[str]:
        try:
            jobs = self.rows(
                "SELECT id, status, attempt, leader_id, worker, lease_until, sent_at, now() FROM jobs "
                "WHERE status IN ('queued', 'running')"
            )
            waiting = self.rows("SELECT id, tries, next_try_at, last_error FROM deliveries WHERE state = 'waiting'")
            hooks = self.rows("SELECT id, job_id, since_event FROM hooks WHERE state = 'active' AND job_id IS NOT NULL")
            outbox = self.rows("SELECT n, type, job_id FROM outbox")
            last = self.rows("SELECT coalesce(max(id), 0) FROM events")[0][0]
            leaving = self.rows("SELECT sha256, state, changed_at FROM blobs WHERE state <> 'kept'")
        except psycopg.Error as error:
            return [f"the database: {error}"]
        behind = [f"{each.kind} has seen {each.last} of {last}" for each in self._clients.followers if each.last < last]
        named = (("job", jobs), ("delivery", waiting), ("webhook", hooks), ("outbox", outbox), ("blob", leaving))
        return [f"{name} {' '.join(map(str, row))}" for name, rows in named for row in rows] + behind

    # --- jobs --------------------------------------------------------------------------------------------------------

    def _check_clients(self) -> None:
        self.wrong["seen by clients"] += self._ledger.wrong
        for key, jobs in self._ledger.jobs_of_keys.items():
            if len(jobs) != 1:
                self.wrong["twice"].append(f"key {key}: {sorted(jobs)}")
        for key, count in self.rows(
            "SELECT idempotency_key, count(*) FROM jobs WHERE idempotency_key IS NOT NULL "
            "GROUP BY 1 HAVING count(*) > 1"
        ):
            self.wrong["twice"].append(f"key {key} has {count} jobs")

    def _check_jobs(self) -> None:
        lives = self._read_events()
        jobs = {
            row[0]: row
            for row in self.rows("SELECT id, status, attempt, leader_id, worker, lease_until, error FROM jobs")
        }
        self.figures |= {
            "jobs promised": len(self._ledger.promises),
            "jobs stored": len(jobs),
            "events": sum(map(len, lives.values())),
            "jobs started more than once": sum(row[2] > 1 for row in jobs.values()),
            "starts of the job that was started most": max((row[2] for row in jobs.values()), default=0),
            **{f"jobs {status}": times for status, times in Counter(row[1] for row in jobs.values()).items()},
        }
        self._compare_with_promises({job_id: row[1] for job_id, row in jobs.items()})
        for job_id, status, attempt, leader, worker, lease, error in jobs.values():
            life = lives[job_id]
            if status not in FINAL:
                self.wrong["stuck"].append(f"{job_id} {status}")
            elif not LIFE.fullmatch(life) or life[-1] != LETTERS[f"job.{status}"] or life.count("R") != attempt:
                self.wrong["events"].append(f"{job_id} {status} after {attempt} starts: {life}")
            if leader or worker or lease:
                self.wrong["left in the row"].append(f"{job_id}: leader {leader}, worker {worker}, lease {lease}")
            if status == "failed":
                self.wrong["failed"].append(f"{job_id} after {attempt} starts: {error}")

    def _read_events(self) -> dict[str, str]:
        """The events of each job as letters, erased jobs too."""
        lives: dict[str, str] = defaultdict(str)
        stored = {row[0] for row in self.rows("SELECT id FROM jobs")}
        for job_id, kind, content in self.rows("SELECT job_id, type, content FROM events ORDER BY id"):
            lives[job_id] += LETTERS[kind]
            if (content is not None) != (job_id in stored):
                self.wrong["not erased" if content else "events"].append(
                    f"{job_id}: the content of {kind} is {content}"
                )
            elif content is not None and kind not in (f"job.{json.loads(content)['status']}", "job.progress"):
                self.wrong["events"].append(f"{job_id}: {kind} says {content}")
        for job_id, life in lives.items():
            if sum(letter in "SFC" for letter in life) > 1:
                self.wrong["twice"].append(f"{job_id} ended twice: {life}")
        return lives

    def _compare_with_promises(self, jobs: dict[str, str]) -> None:
        for each in self._ledger.promises.values():
            if each.id not in jobs and not each.erasing:
                self.wrong["lost"].append(f"{each.kind} {each.id}")
            if each.id in jobs and each.erasing:
                self.wrong["not erased"].append(each.id)
            if each.id in jobs and each.end not in (None, jobs[each.id]):
                self.wrong["ended differently"].append(f"{each.id}: {each.end}, then {jobs[each.id]}")

    def _check_followers(self) -> None:
        kept = dict(self.rows("SELECT id, type FROM events WHERE content IS NOT NULL"))
        erased = {row[0] for row in self.rows("SELECT id FROM events WHERE content IS NULL")}
        for each in self._clients.followers:
            ids = [event_id for event_id, _, _ in each.seen]
            self.figures["connections of listeners"] = (
                self.figures.get("connections of listeners", 0) + each.connections
            )
            if ids != sorted(set(ids)):
                self.wrong["events seen twice or out of order"].append(each.kind)
            if missing := kept.keys() - set(ids):
                self.wrong["events not seen"].append(f"{each.kind}: {len(missing)}, first {sorted(missing)[:5]}")
            if strange := set(ids) - kept.keys() - erased:
                self.wrong["events that are not stored"].append(f"{each.kind}: {sorted(strange)[:5]}")
            for event_id, kind, _ in each.seen:
                if kept.get(event_id, kind) != kind:
                    self.wrong["events that changed"].append(f"{event_id}: {kind}, then {kept[event_id]}")

    def _check_webhooks(self) -> None:
        told = Counter(json.loads(each.body)["job"]["id"] for each in self._receiver.received)
        self.figures["webhooks received"] = sum(told.values())
        stored = {row[0] for row in self.rows("SELECT id FROM jobs")}
        for each in self._ledger.promises.values():
            if each.webhook and each.id in stored and not told[each.id]:
                self.wrong["webhooks missing"].append(each.id)
        for row in self.rows("SELECT id, tries, last_status, last_error FROM deliveries WHERE state <> 'delivered'"):
            self.wrong["webhooks not delivered"].append(" ".join(map(str, row)))
        for (secret,) in self.rows("SELECT secret FROM webhook_secrets"):
            from standardwebhooks import Webhook

            for got in self._receiver.received[-50:]:  # older ones would be refused for their age
                if time.time() - float(got.headers["webhook-timestamp"]) < 240:
                    Webhook(secret).verify(got.body, got.headers)

    def _check_erased(self) -> None:
        receipts = [each.receipt for each in self._ledger.promises.values() if each.receipt is not None]
        self.figures["erased with a receipt"] = len(receipts)
        env = {name: value for name, value in os.environ.items() if not name.startswith("LIMNER_")} | self._stack.env
        for receipt in receipts[:: max(1, len(receipts) // VERIFIED)]:
            done = subprocess.run(
                [sys.executable, "-m", "limner.cli", "verify-erasure", "-"],
                input=json.dumps(receipt).encode(),
                capture_output=True,
                env=env,
                timeout=60,
                check=False,
            )
            if done.returncode:
                self.wrong["receipts that do not hold"].append(done.stdout.decode() + done.stderr.decode())
        ids = [receipt["job_id"] for receipt in receipts]
        for table in ("files", "deliveries", "hooks"):
            found = {row[0] for row in self.rows(f"SELECT job_id FROM {table}")}  # noqa: S608
            self.wrong["not erased"] += [f"{each} in {table}" for each in ids if each in found]

    # --- bytes -------------------------------------------------------------------------------------------------------

    def _check_artifacts(self) -> None:
        """Every artifact, as a client gets it."""
        files = self.rows(
            "SELECT f.job_id, f.name, f.sha256, f.size FROM files f JOIN jobs j ON j.id = f.job_id "
            "WHERE f.role = 'artifact'"
        )
        self.figures["artifacts"] = len(files)
        with httpx.Client(base_url=self._stack.url, timeout=30) as http:
            for job_id, name, sha256, size in files:
                answer = http.get(f"/v1/jobs/{job_id}/artifacts/{name}")
                if answer.status_code != 200 or hashlib.sha256(answer.content).hexdigest() != sha256:
                    self.wrong["artifacts"].append(
                        f"{job_id}/{name}: {answer.status_code}, {len(answer.content)} of {size}"
                    )
        for (job_id,) in self.rows(
            "SELECT id FROM jobs WHERE status = 'succeeded' AND NOT EXISTS "
            "(SELECT 1 FROM files WHERE job_id = jobs.id AND role = 'artifact')"
        ):
            self.wrong["artifacts"].append(f"{job_id} has none")

    def _check_bytes(self) -> None:
        """Every file is in a row, and every row has its file, once the service has tidied up what is old."""
        old = time.time() - OLD_S
        before = 0
        for path in self._files():
            os.utime(path, (old, old))
            before += 1
        self._stack.web.stop()
        self._stack.web.wanted = True  # it tidies up when it starts
        self._stack.wait_until("ready", self._is_ready, 60)
        kept = dict(self.rows("SELECT sha256, size FROM blobs WHERE state = 'kept'"))
        named = {row[0] for row in self.rows("SELECT DISTINCT sha256 FROM files")}
        deadline = time.monotonic() + 30
        while True:
            found = {self._name(path): path for path in self._files()}
            if found.keys() == kept.keys() or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        self.figures |= {"files": len(found), "orphans tidied up": before - len(found)}
        self.wrong["files without a row"] += sorted(found.keys() - kept.keys())
        self.wrong["rows without a file"] += sorted(kept.keys() - found.keys())
        self.wrong["blobs that no job names"] += sorted(kept.keys() - named)
        self.wrong["jobs that name no blob"] += sorted(named - kept.keys())
        for name, path in found.items():
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() != name or len(data) != kept.get(name, len(data)):
                self.wrong["damaged files"].append(name)

    def _files(self) -> list[Path]:
        return [path for path in self._stack.photos.rglob("*") if path.is_file() and path.name != "database-id"]

    def _name(self, path: Path) -> str:
        return path.parent.name + path.name if path.parent != self._stack.photos else path.name

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self._stack.url}/readyz", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    # --- the end -----------------------------------------------------------------------------------------------------

    def _check_end(self) -> None:
        for name, status in self._stack.stop_product().items():
            if status != 0:
                self.wrong["did not stop well"].append(f"{name}: {status}")
        for pid, (_, command) in all_processes().items():
            if "limner" in command and "tests.chaos" not in command and "limner@" not in command:
                self.wrong["processes left"].append(f"{pid} {command[:200]}")
        for (left,) in self.rows("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'limner'"):
            if left:
                self.wrong["connections left"].append(str(left))

    def _check_logs(self) -> None:
        errors: Counter[str] = Counter()
        for log in ("web", "worker-here", "worker-there"):
            text = (self._stack.logs / f"{log}.log").read_text(errors="replace")
            for line in text.splitlines():
                if not line.startswith("{"):
                    if re.match(r"[\w.]*(Error|Exception)\b", line) and not EXPECTED_ERRORS.search(line):
                        errors[f"{log}, no log line: {line[:200]}"] += 1
                    continue
                told = json.loads(line)
                if EXPECTED_ERRORS.search(told["message"]):
                    continue
                if told.get("level") in ("ERROR", "CRITICAL") or "Traceback" in line:
                    errors[f"{log}: {told['message'][:300].strip()}"] += 1
        self.wrong["errors in the logs"] += [f"{count} × {text}" for text, count in errors.most_common(40)]
