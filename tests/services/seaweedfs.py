"""An S3 server for tests: SeaweedFS in one process."""

import json
import secrets
import signal
import subprocess
import sysconfig
import urllib.error
import urllib.request
from datetime import timedelta
from pathlib import Path

import obstore
from obstore.store import S3Store

from tests.services.process import ServerProcess, free_port


class SeaweedFS:
    """SeaweedFS with its data in `folder`, with one key that may do everything."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.access_key = f"key{secrets.token_hex(6)}"
        self.secret_key = secrets.token_hex(16)
        ports = {name: free_port() for name in ("master", "volume", "filer", "s3")}
        self.url = f"http://127.0.0.1:{ports['s3']}"
        credentials = {"accessKey": self.access_key, "secretKey": self.secret_key}
        identity = {"name": "limner", "credentials": [credentials], "actions": ["Admin", "Read", "Write", "List"]}
        config = folder / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}))
        program = Path(sysconfig.get_path("scripts")) / "weed"
        inner = {name: free_port() for name in ports}
        options = [f"-{name}.port={port}" for name, port in ports.items()]
        options += [f"-{name}.port.grpc={port}" for name, port in inner.items()]
        self._shell = [str(program), "shell"]
        self._shell += [f"-{name}=127.0.0.1:{ports[name]}.{inner[name]}" for name in ("master", "filer")]
        self.process = ServerProcess(
            [
                str(program),
                "server",
                f"-dir={folder}",
                "-ip=127.0.0.1",
                "-ip.bind=127.0.0.1",
                "-s3",
                "-filer",
                *options,
                f"-s3.config={config}",
                "-master.volumeSizeLimitMB=64",
                "-master.electionTimeout=1s",  # a start on old data waits for it
                "-volume.max=200",
                "-s3.port.iceberg=0",  # these two have fixed ports, which only one server can have
                "-s3.port.lance=0",
            ],
            self._is_ready,
            folder / "seaweedfs.log",
            environment={"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"},  # a bucket takes one volume, not seven
            stop_signal=signal.SIGKILL,  # asked to end, it waits for half a minute
        )

    def new_bucket(self, *, name: str | None = None, versioned: bool = False) -> str:
        """Create an empty bucket and return its name."""
        name = name or f"test-{secrets.token_hex(6)}"
        keys = {"access_key_id": self.access_key, "secret_access_key": self.secret_key, "region": "us-east-1"}
        root = S3Store("any", endpoint=self.url, virtual_hosted_style_request=True, **keys)
        signed = obstore.sign(root, "PUT", name, timedelta(minutes=1))
        urllib.request.urlopen(urllib.request.Request(signed, method="PUT"), timeout=30).close()
        if versioned:
            self.keep_versions(name)
        return name

    def keep_versions(self, bucket: str) -> None:
        """Let the bucket keep old versions of its objects."""
        command = f"s3.bucket.versioning -name {bucket} -enable".encode()
        subprocess.run(self._shell, input=command, check=True, capture_output=True, timeout=30)

    def environment(self) -> dict[str, str]:
        """The variables by which S3 clients find it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }

    def _is_ready(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.url}/", timeout=2)
        except urllib.error.HTTPError as error:
            return error.code == 403  # it asks who is calling
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        return True
