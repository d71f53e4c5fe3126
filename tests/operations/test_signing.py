"""Signed C2PA manifests, read by C2PA's own reader. Runs where `limner[c2pa]` is installed."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from limner import local
from limner.domain.errors import SettingsError, SigningError
from limner.operations.generate import GenerateParams, generate
from limner.settings import Settings
from limner.together import check_together
from limner.vision.image import Limits
from limner.vision.models import Models
from limner.vision.signing import Claim, Identity, problems
from tests.conftest import MODELS

c2pa = pytest.importorskip("c2pa", reason="limner[c2pa] is not installed")

from tests.services.certificates import issue  # noqa: E402  # it needs the extra too

UNTRUSTED = ["signingCredential.untrusted"]  # the test's own authority is on nobody's list


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return issue(tmp_path_factory.mktemp("certificate"))


@pytest.fixture
def signing(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMNER_C2PA_CERTIFICATE", str(files[0]))
    monkeypatch.setenv("LIMNER_C2PA_KEY", str(files[1]))


def painted(photo: bytes, **values: Any) -> bytes:
    given = {"style": "pixel", "seed": 7, "size": "64", **values}
    made = local.run(generate, given, {"image": photo}, models=Models(MODELS), limits=Limits())
    return made.artifacts[made.result.pictures[0].name]  # type: ignore[attr-defined]


def manifest(data: bytes, media_type: str) -> dict[str, Any]:
    found = json.loads(c2pa.Reader(media_type, io.BytesIO(data)).json())
    active: dict[str, Any] = found["manifests"][found["active_manifest"]]
    return active


@pytest.mark.usefixtures("signing")
@pytest.mark.parametrize("form", ["jpeg", "png", "webp"])
def test_a_signed_picture_tells_how_it_was_made(form: str, astronaut_jpeg: bytes) -> None:
    data, bare = painted(astronaut_jpeg, format=form), painted(astronaut_jpeg, format=form, provenance=False)
    assert problems(data, f"image/{form}") == UNTRUSTED
    told = manifest(data, f"image/{form}")
    assertions = {each["label"].partition(".v")[0]: each["data"] for each in told["assertions"]}
    (action,) = assertions["c2pa.actions"]["actions"]
    assert action["action"] == "c2pa.created"
    assert action["digitalSourceType"].endswith("/digitalsourcetype/algorithmicallyEnhanced")
    assert action["softwareAgent"]["name"] == "Limner drawn"
    assert assertions["limner.painting"] == {"painter": "drawn", "seed": 7}
    assert told["claim_generator_info"][0]["name"] == "Limner"
    assert told["signature_info"]["common_name"] == "limner"
    assert "thumbnail" not in told
    opened = Image.open(io.BytesIO(data))
    assert np.array_equal(np.asarray(opened.convert("RGB")), np.asarray(Image.open(io.BytesIO(bare)).convert("RGB")))
    assert b"DigitalSourceType" in data
    assert len(data) - len(bare) < 6000
    with pytest.raises(SigningError, match="JUMBF"):
        problems(bare, f"image/{form}")


def test_a_picture_without_a_seed_tells_none() -> None:
    claim = Claim("trainedAlgorithmicMedia", tool="Limner", version="1", painter="openai", seed=None)
    assert claim.manifest()["assertions"][1]["data"] == {"painter": "openai"}


@pytest.mark.usefixtures("signing")
def test_a_changed_picture_is_noticed(astronaut_jpeg: bytes) -> None:
    data = bytearray(painted(astronaut_jpeg, size="512"))
    data[-2000] ^= 1
    assert "assertion.dataHash.mismatch" in problems(bytes(data), "image/jpeg")


def test_signed_and_unsigned_results_do_not_answer_for_each_other(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fingerprint(**values: Any) -> str:
        return generate.fingerprint(GenerateParams(**values), lambda _: "models", "request")

    before, without = fingerprint(), fingerprint(provenance=False)
    monkeypatch.setenv("LIMNER_C2PA_CERTIFICATE", str(files[0]))
    monkeypatch.setenv("LIMNER_C2PA_KEY", str(files[1]))
    assert fingerprint() != before
    assert fingerprint(provenance=False) == without


def test_a_certificate_that_has_gone_is_an_error_of_the_job(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, astronaut_jpeg: bytes
) -> None:
    certificate, key = issue(tmp_path / "own")
    monkeypatch.setenv("LIMNER_C2PA_CERTIFICATE", str(certificate))
    monkeypatch.setenv("LIMNER_C2PA_KEY", str(key))
    certificate.unlink()
    with pytest.raises(SigningError, match=r"certificate\.pem cannot be read"):
        painted(astronaut_jpeg)


@pytest.mark.parametrize("kind", ["P-384", "P-521", "Ed25519", "RSA"])
def test_other_kinds_of_keys_sign_too(kind: str, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    key = {
        "P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "P-521": lambda: ec.generate_private_key(ec.SECP521R1()),
        "Ed25519": ed25519.Ed25519PrivateKey.generate,
        "RSA": lambda: rsa.generate_private_key(65537, 2048),
    }[kind]()
    Identity(*issue(tmp_path / "own", key=key)).check()


def refusal(certificate: Path | None, key: Path | None) -> str:
    with pytest.raises(SettingsError) as refused:
        check_together(Settings(c2pa_certificate=certificate, c2pa_key=key))
    return refused.value.detail


def test_wrong_files_are_refused_at_the_start(files: tuple[Path, Path], tmp_path: Path) -> None:
    certificate, key = files
    check_together(Settings(c2pa_certificate=certificate, c2pa_key=key))
    assert "belong together" in refusal(certificate, None)
    assert "none.pem cannot be read" in refusal(tmp_path / "none.pem", key)
    assert "no certificate in PEM" in refusal(key, key)
    assert "no private key in PEM" in refusal(certificate, certificate)
    other = issue(tmp_path / "other")
    assert "is not the key of the first certificate" in refusal(certificate, other[1])
    assert "is valid from" in refusal(*issue(tmp_path / "ended", days=-1))
    assert "C2PA refuses" in refusal(*issue(tmp_path / "purposeless", purpose=False))
    from cryptography.hazmat.primitives.asymmetric import ec

    weak = issue(tmp_path / "weak", key=ec.generate_private_key(ec.SECP256K1()))
    assert "must be of the curve" in refusal(*weak)
