"""The container engine of the tests. Where no image registry can be reached, it works with stand-ins from Debian."""

import os
import resource
import shutil
import signal
import subprocess
import sysconfig
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "limner-tests"
STAND_INS = Path(__file__).parent / "stand_ins/build.sh"
PULL_S = 300
BUILD_S = 1800
KINDS = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
FEW = 4096


@dataclass(frozen=True)
class Engine:
    """docker or podman, with the variables by which it works here."""

    name: str
    stands_in: bool = False
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])
        return {**os.environ, "PATH": path, "ENGINE": self.name, **self.variables}

    def run(self, *words: str, timeout_s: float = 120) -> str:
        """Run a command of the engine; its output. AssertionError if it fails."""
        return run([self.name, *words], self.environment, timeout_s)

    def has(self, image: str) -> bool:
        command = [self.name, "image", "inspect", image]
        return subprocess.run(command, env=self.environment, capture_output=True, check=False).returncode == 0

    def provide(self, images: dict[str, str]) -> set[str]:
        """Pull images, or build their stand-ins (by `images`: image → target). Those that there is no way to get."""
        missing = [image for image in images if not self.has(image)]
        if not self.stands_in:
            for image in missing:
                self.run("pull", "--quiet", image, timeout_s=PULL_S)
            return set()
        pairs = [f"{images[image]}={image}" for image in missing if images[image]]
        if pairs:
            run([str(STAND_INS), *pairs], self.environment, BUILD_S)
        return {image for image in missing if not images[image]}

    def build(self, image: str, python: str) -> None:
        """Build Limner's image, as `make image` does."""
        variables = {**self.environment, "IMAGE": image, "PYTHON_TAG": python}
        if self.stands_in:
            certificates = "/etc/ssl/certs/ca-certificates.crt"  # with those of a proxy, if this machine has one
            given = os.environ.get("BUILD_ARGS", "")
            variables["BUILD_ARGS"] = (
                f"--pull=never --isolation chroot --network host --volume {certificates}:{certificates}:ro {given}"
            )
        run([str(ROOT / "scripts/build_image.sh")], variables, BUILD_S)


def run(command: list[str], environment: dict[str, str], timeout_s: float = 120) -> str:
    """Run a command; its standard output. AssertionError with all of its output if it fails or takes too long."""
    # Files, because a container's monitor, which goes on, would hold a pipe open.
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
        try:
            status: int | str = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with its children, which would hold locks
            process.wait()
            status = "too slow"
        out.seek(0)
        err.seek(0)
        told = out.read()
        assert status == 0, f"{' '.join(command)}: {status}\n{told[-5000:]}{err.read()[-5000:]}"
    return told.strip()


def find_engine(image: str) -> Engine:
    """docker or podman that can pull `image`; or podman with stand-ins. Skips the test if there is neither."""
    wanted = os.environ.get("ENGINE")
    for name in (wanted,) if wanted else ("docker", "podman"):
        if not shutil.which(name) or subprocess.run([name, "info"], capture_output=True, check=False).returncode:
            continue
        engine = Engine(name)
        if engine.has(image):
            return engine
        pulled = subprocess.run(
            [name, "pull", "--quiet", image], capture_output=True, text=True, timeout=PULL_S, check=False
        )
        if not pulled.returncode:
            return engine
        if name == "podman" and os.geteuid() == 0 and shutil.which("debootstrap"):
            return Engine(name, stands_in=True, variables=_own_configuration())
        pytest.skip(
            f"{name} cannot pull {image}: {pulled.stderr[-300:]}. (Stand-ins need root, podman and debootstrap)"
        )
    pytest.skip("neither docker nor podman works here")


def _own_configuration() -> dict[str, str]:
    """podman with a store of its own, for a machine that may have no systemd and where root has fewer rights."""
    folder = CACHE / "containers"
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["[engine]", 'events_logger = "file"']
    if shutil.which("runc"):
        lines.append('runtime = "runc"')
    if not Path("/run/systemd/system").exists():
        lines.append('cgroup_manager = "cgroupfs"')
    # The engine's own limits may be higher than those that root has here, and then it starts nothing.
    most = [min(limit, FEW) for limit in (resource.getrlimit(kind)[1] for kind in KINDS.values()) if limit > 0] or [FEW]
    limits = [f"{name}={min(most)}:{min(most)}" for name in KINDS]
    lines += [
        "[containers]",
        f"default_ulimits = {limits}".replace("'", '"'),
        "[network]",
        'network_backend = "netavark"',
    ]
    (folder / "containers.conf").write_text("\n".join(lines) + "\n")
    places = f'runroot = "{folder}/run"\ngraphroot = "{folder}/storage"\n'
    (folder / "storage.conf").write_text(f'[storage]\ndriver = "overlay"\n{places}')
    return {
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
    }
