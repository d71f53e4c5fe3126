"""`make test-chaos`: CHAOS_FAULTS faults (200) in CHAOS_SECONDS (1500). CHAOS_SEED repeats those of another run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = float(os.environ.get("CHAOS_SECONDS", "1500"))
AFTER_S = 500.0  # for the start, the last answers, the settling and the verdict


@pytest.mark.chaos
@pytest.mark.timeout(SECONDS + AFTER_S + 60)
def test_nothing_is_lost_whatever_fails(tmp_path: Path) -> None:
    """In namespaces for processes, network and mounts: nothing of it reaches the machine, or outlives the test."""
    for program in ("unshare", "nsenter", "ip", "iptables", "mount"):
        assert shutil.which(program), f"{program} is needed (packages util-linux, iproute2, iptables)"
    assert os.geteuid() == 0, "run as root: disks are mounted and networks made, in namespaces"
    for folder in tmp_path.parents:  # PostgreSQL runs as another user
        if folder.stat().st_uid == 0 and not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)
    spaces = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    done = subprocess.run(
        [*spaces, "--propagation", "private", sys.executable, "-m", "tests.chaos.run", str(tmp_path)],
        timeout=SECONDS + AFTER_S,
        check=False,
    )
    assert done.returncode == 0, f"see above; logs are in {tmp_path / 'logs'}"
