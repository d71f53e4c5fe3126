"""One run: `python -m tests.chaos.run FOLDER`, in namespaces of its own (`test_chaos.py` makes them)."""

import os
import random
import secrets
import sys
import time
from collections import Counter
from pathlib import Path

from tests.chaos.clients import Clients
from tests.chaos.faults import inject, plan, together
from tests.chaos.ledger import Ledger
from tests.chaos.stack import Stack
from tests.chaos.verdict import Verdict
from tests.journeys.receiver import receiving

CALM_S = 5.0  # in which nothing fails


def main(folder: Path) -> int:
    """Run it. The exit status: 0 if nothing is wrong."""
    count = int(os.environ.get("CHAOS_FAULTS", "200"))
    seconds = float(os.environ.get("CHAOS_SECONDS", "1500"))
    seed = int(os.environ.get("CHAOS_SEED") or secrets.randbelow(1_000_000))
    print(f"chaos: {count} faults, at most {seconds:g} s, CHAOS_SEED={seed}", flush=True)
    faults = plan(random.Random(seed), 2 * count)  # some miss what they are to strike
    ledger = Ledger()
    with receiving() as receiver:
        stack = Stack(folder, receiver.port)
        clients = Clients(stack.url, f"{receiver.url}/hook", ledger, seed)
        verdict = Verdict(stack, clients, receiver)
        stack.start()
        stack.wait_until("ready", verdict._is_ready, 60)
        clients.start()
        began = time.monotonic()
        time.sleep(CALM_S)
        done: Counter[str] = Counter()
        missed: Counter[str] = Counter()
        for each in together(faults):
            now = time.monotonic() - began
            if now > seconds:
                verdict.wrong["time"].append(f"only {done.total()} of {count} faults in {seconds:g} s")
                break
            names = " + ".join(f"{fault.kind} ({fault.seconds:.1f} s)" for fault in each)
            print(f"{now:7.1f} s  {done.total() + 1:3}  {names}", flush=True)
            happened = inject(stack, each)
            done.update(fault.kind for fault in happened)
            missed.update(fault.kind for fault in each if fault not in happened)
            if done.total() >= count:
                break
            time.sleep(each[-1].pause_s)
        else:
            verdict.wrong["faults"].append(f"only {done.total()} of {count} faults have struck something")
        chaos_s = time.monotonic() - began
        clients.stop_sending()
        verdict.find()
        stack.stop_rest()
    _report(verdict, ledger, done, missed, chaos_s)
    return 1 if any(verdict.wrong.values()) else 0


def _report(verdict: Verdict, ledger: Ledger, done: Counter[str], missed: Counter[str], chaos_s: float) -> None:
    print("\nfaults")
    for kind, times in sorted(done.items()):
        print(f"  {times:5}  {kind}")
    print(f"  {done.total():5}  together, in {chaos_s:.0f} s")
    for kind, times in sorted(missed.items()):
        print(f"  {times:5}  {kind}, not there, not counted")
    print("answers")
    for answer, times in sorted(ledger.answers.items()):
        print(f"  {times:5}  {answer}")
    print("figures")
    for name, figure in verdict.figures.items():
        print(f"  {figure:5}  {name}")
    print(f"  {ledger.longest_gap(ledger.accepted_at):5.1f}  longest time in which no photo was accepted, s")
    print(f"  {ledger.longest_gap(ledger.answered_at):5.1f}  longest time in which no request was answered, s")
    print("verdict")
    for name in ("lost", "twice", "stuck", "events", "not erased"):
        print(f"  {len(verdict.wrong[name]):5}  {name}")
    for name, each in verdict.wrong.items():
        if each:
            print(f"WRONG {name}: {len(each)}")
            for text in each[:12]:
                print(f"      {text}")
    print("nothing is wrong" if not any(verdict.wrong.values()) else "something is wrong", flush=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
