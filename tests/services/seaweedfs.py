"""An S3 server for tests: SeaweedFS in one process."""

import json
import secrets
import signal
import sysconfig
import urllib.error
import urllib.request
from pathlib import Path

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
        options = [f"-{name}.port={port}" for name, port in ports.items()]
        options += [f"-{name}.port.grpc={free_port()}" for name in ports]
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
                "-volume.max=20",
            ],
            self._is_ready,
            folder / "seaweedfs.log",
            stop_signal=signal.SIGKILL,  # asked to end, it waits for half a minute
        )

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
