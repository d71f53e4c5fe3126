"""The pieces of the documents between ``` and ```, and which of them the tests do not run, with the reason."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "bench/README.md"])
RUN = ("sh", "python", "js")
ONLY_READ = ("json", "text", "toml", "yaml", "html", "nginx", "caddyfile")
PATIENCE_S = 120  # of a busy machine

# Documents and the first lines of their blocks that are not run here, and why.
INSTALLS = "installs packages of the system, as root"
FOR_EVER = "runs until it is stopped; every server of the tests starts so"
SYSTEMD = "needs systemd and root; tests/deploy/test_systemd.py looks at units, settings and the command"
CONTAINER = "builds and runs a container: tests/deploy/test_container.py (slow)"
STACK = "builds and runs a stack of containers: tests/deploy/test_stack.py (slow)"
VENDORS = "needs a product's own client: tests/journeys/test_compat.py runs it"
HOSTED = "needs a key of that service: tests/journeys/test_classic_generation.py"
DEVELOPER = "is what runs these tests"
NOT_RUN = {
    "README.md": {"make run": FOR_EVER, "make image": CONTAINER},
    "CONTRIBUTING.md": {"make test": DEVELOPER},
    "bench/README.md": {"initdb -D": "a benchmark of minutes"},
    "docs/backup.md": {
        "umask 077 && cd /var/lib/limner": f"{SYSTEMD}; tests/journeys/test_backup.py runs its program",
        "systemctl stop limner\ncd": SYSTEMD,
        "docker exec limner python": CONTAINER,
        "docker run --rm -i": CONTAINER,
        "umask 077 && cd /var/backups": SYSTEMD,
        "systemctl stop limner limner-worker": SYSTEMD,
    },
    "docs/classic.md": {
        "LIMNER_ALLOWED_ORIGINS": FOR_EVER,
        "curl -F image=@photo.jpg -F models=stability-ai": HOSTED,
    },
    "docs/compat.md": {"import boto3": VENDORS, "from google.cloud": VENDORS, "from compreface": VENDORS},
    "docs/deploy.md": {
        "apt-get install -y git": f"{INSTALLS}; {SYSTEMD}",
        "apt-get install -y postgresql": f"{INSTALLS}; {SYSTEMD}",
        "make image": CONTAINER,
        "apt-get install -y --no-install-recommends nginx": f"{INSTALLS}; tests/deploy/test_nginx.py",
        "make install-cluster": "needs S3: tests/journeys/test_s3.py",
        "make stack": STACK,
        "kubectl create": "needs Kubernetes: tests/deploy/test_helm.py",
    },
    "docs/api.md": {"openapi-python-client": "tests/journeys/test_generated_clients.py"},
    "docs/live.md": {"const video": "needs a camera: tests/journeys/test_page_live.py"},
    "docs/operations.md": {
        '"""Measure how sharp': "tests/rules/test_documents.py",
        "make run": "needs the example as a part of the program",
    },
    "docs/painters.md": {".venv/bin/pip install": "installs; tests/operations/test_signing.py"},
    "docs/quick-start.md": {
        "sudo apt-get": INSTALLS,
        "make run": FOR_EVER,
        "make limner ARGS": FOR_EVER,
    },
    "docs/recipes.md": {"LIMNER_REQUIRE_KEYS": FOR_EVER, "make stack": STACK},
    "docs/settings.md": {"make install-cluster": "needs a broker: tests/journeys/test_workers.py"},
    "docs/traces.md": {"make install-cluster": "needs a collector: tests/journeys/test_traces.py"},
    "docs/webhooks.md": {"from standardwebhooks": "a part of a program: tests/journeys/test_webhooks.py"},
}

# Blocks of many commands, which take long: `tests/commands/` tries these commands quicker.
SLOW = {("docs/command-line.md", "limner detect photo.jpg  "), ("docs/keys.md", 'limner keys create "photo booth"')}

# Blocks that go on until they are stopped, and what they print.
ENDLESS = ("curl -N", "for event in Client", "import websockets")

# Statuses that are answered beside success: those that a comment in the block tells.
TOLD_STATUS = re.compile(r"#.*\b(4\d\d)\b")


@dataclass(frozen=True)
class Block:
    """A piece of a document between ``` and ```."""

    document: str
    line: int
    language: str
    text: str

    @property
    def first(self) -> str:
        """Its first line that is no comment."""
        return next((line for line in self.text.splitlines() if line and not line.startswith("#")), "")


def blocks() -> list[Block]:
    found = []
    for path in DOCUMENTS:
        text = path.read_text()
        for match in re.finditer(r"^( *)```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
            body = re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE)
            found.append(Block(str(path.relative_to(ROOT)), text.count("\n", 0, match.start()) + 1, match[2], body))
    return found


BLOCKS = blocks()


def why_not(block: Block) -> str | None:
    """The reason why it is not run here."""
    for beginning, reason in NOT_RUN.get(block.document, {}).items():
        if block.text[block.text.index(block.first) :].startswith(beginning):
            return reason
    return None


def is_slow(block: Block) -> bool:
    return any(block.document == document and block.first.startswith(first) for document, first in SLOW)
