"""The paths of pictures by URL: what they say, and that a signature is good for one text alone."""

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from limner.domain.errors import BadSignatureError, InvalidRequestError, LimnerError, NotFoundError
from limner.operations import CATALOGUE
from limner.web import signed_url
from limner.web.signed_url import Asked, is_signed, read, signature_of, split, values_for, write

BY_URL = Path(__file__).resolve().parents[2] / "docs/by-url.md"
KEY, OLD_KEY = "k" * 40, "o" * 40
URL = "https://example.org/a b/ü.jpg?size=1&x=%2F"
JOB = "01936f2e-1111-7222-8333-0123456789ab"
TEXT = write("detect", {"mark": "blur", "margin": "0.5"}, "https://example.org/photo.jpg")
SIGNATURE = signature_of(KEY, TEXT)
GOOD = f"{signed_url.PREFIX}{SIGNATURE}{TEXT}"


def passes(path: str) -> bool:
    """Whether a request for this path would be let through with the key, as the route decides it."""
    try:
        signature, text = split(path.encode())
    except NotFoundError:
        return False
    return is_signed([KEY], text, signature)


def test_the_signature_is_a_plain_hmac_that_any_language_can_make() -> None:
    digest = hmac.new(KEY.encode(), TEXT.encode(), hashlib.sha256).digest()
    assert base64.urlsafe_b64encode(digest).decode().rstrip("=") == SIGNATURE
    source = base64.urlsafe_b64encode(b"https://example.org/photo.jpg").decode().rstrip("=")
    assert f"/detect/margin=0.5,mark=blur/{source}" == TEXT
    assert passes(GOOD)


def test_the_documents_program_signs() -> None:
    program = re.search(r"^```python\n(.*?)^```", BY_URL.read_text(), re.MULTILINE | re.DOTALL)
    assert program is not None
    names: dict[str, Any] = {}
    exec(program[1], names)  # noqa: S102  # our own document
    assert names["signed"](KEY, "detect", "margin=0.5,mark=blur", "https://example.org/photo.jpg") == GOOD


def test_the_key_before_is_accepted_while_both_are_set() -> None:
    assert is_signed([KEY, OLD_KEY], TEXT, signature_of(OLD_KEY, TEXT))
    assert not is_signed([KEY], TEXT, signature_of(OLD_KEY, TEXT))
    assert not is_signed([], TEXT, signature_of("", TEXT))


TEXTS = {
    "other options": TEXT.replace("blur", "box"),
    "no options": TEXT.replace("margin=0.5,mark=blur", "-"),
    "options in another order": TEXT.replace("margin=0.5,mark=blur", "mark=blur,margin=0.5"),
    "an option more": TEXT.replace("mark=blur", "mark=blur,max_faces=1"),
    "an option twice": TEXT.replace("mark=blur", "mark=blur,mark=box"),
    "a letter of an option percent-encoded": TEXT.replace("blur", "%62lur"),
    "the same in small letters": TEXT.replace("0.5", "0%2e5"),
    "an encoded comma": TEXT.replace(",", "%2C"),
    "an encoded slash for a slash": TEXT.replace("/margin", "%2Fmargin"),
    "doubled slashes": TEXT.replace("/margin", "//margin"),
    "a dot segment": TEXT.replace("/margin", "/./margin"),
    "two dots": TEXT.replace("/detect", "/crop/../detect"),
    "encoded dots": TEXT.replace("/detect", "/crop/%2e%2e/detect"),
    "another operation": TEXT.replace("detect", "crop"),
    "an operation in capitals": TEXT.replace("detect", "DETECT"),
    "another source": TEXT.replace("aHR0", "aHR1"),
    "padding": TEXT + "=",
    "a slash at the end": TEXT + "/",
    "a query": TEXT + "?mark=box",
    "an encoded query": TEXT + "%3Fmark=box",
    "a fragment": TEXT + "#x",
    "an encoded null": TEXT + "%00",
    "a space": TEXT + "%20",
    "a line feed": TEXT + "\n",
    "a semicolon": TEXT + ";x=1",
    "a backslash": TEXT.replace("/margin", "\\margin"),
    "letters that look the same": TEXT.replace("e", "\N{CYRILLIC SMALL LETTER IE}", 1),
}


@pytest.mark.parametrize("what", TEXTS)
def test_a_signature_is_not_good_for(what: str) -> None:
    assert TEXTS[what] != TEXT
    assert not passes(f"{signed_url.PREFIX}{SIGNATURE}{TEXTS[what]}")


def test_no_change_of_a_single_letter_passes() -> None:
    tried = {
        changed
        for at in range(len(GOOD) + 1)
        for letter in ("", *"/.%?#-_=,;:&+~ \\aA0\x00\xa0")
        for changed in (GOOD[:at] + letter + GOOD[at + 1 :], GOOD[:at] + letter + GOOD[at:])
    } - {GOOD}
    assert len(tried) > 5000
    assert [each for each in tried if passes(each)] == []


last = SIGNATURE[-1]
SIGNATURES = {
    "none": "",
    "unsafe": "unsafe",
    "a shorter one": SIGNATURE[:-1],
    "a longer one": SIGNATURE + "A",
    "padding": SIGNATURE + "=",
    "encoded padding": SIGNATURE + "%3D",
    # the last letter has two bits that no byte uses
    "the same bytes in other letters": SIGNATURE[:-1] + chr(ord(last) + 1),
    "other capitals": SIGNATURE.swapcase(),
    "the usual base64": base64.b64encode(base64.urlsafe_b64decode(SIGNATURE + "=")).decode().rstrip("="),
    "hexadecimal": base64.urlsafe_b64decode(SIGNATURE + "=").hex(),
    "that of a prefix": signature_of(KEY, "/detect"),
    "that of the text without its first slash": signature_of(KEY, TEXT[1:]),
    "that of the whole path": signature_of(KEY, GOOD),
    "that of an empty key": signature_of("", TEXT),
    "two": f"{SIGNATURE}/{SIGNATURE}",
    "a dot": ".",
    "zero bytes": "A" * 43,
}


@pytest.mark.parametrize("what", [each for each in SIGNATURES if SIGNATURES[each] != SIGNATURE])
def test_a_text_is_not_let_through_with_the_signature(what: str) -> None:
    assert not passes(f"{signed_url.PREFIX}{SIGNATURES[what]}{TEXT}")


@pytest.mark.parametrize(
    "path",
    [
        GOOD.replace("/v1/", "/v1//"),
        GOOD.replace("/v1/image", "/v1/x/../image"),
        GOOD.replace("image", "imag%65"),
        GOOD.replace("/v1", "/V1"),
        "/" + GOOD,
        GOOD.upper(),
        f"http://other{GOOD}",
    ],
)
def test_only_the_plain_path_is_read(path: str) -> None:
    with pytest.raises(NotFoundError):
        split(path.encode())


def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(NotFoundError):
        split(GOOD.encode() + b"\xff")


@pytest.mark.parametrize("url", ["https://example.org/photo.jpg", URL])
def test_a_source_is_a_url_in_base64url_or_percent_encoded(url: str) -> None:
    ascii_url = quote(url, safe="/:?&=%")
    assert read(write("crop", {}, ascii_url)) == Asked("crop", {}, None, ascii_url, None)
    assert read(f"/crop/-/{quote(ascii_url, safe='')}") == Asked("crop", {}, None, ascii_url, None)
    as_browser = quote(ascii_url, safe="!*'()")  # encodeURIComponent
    assert read(f"/crop/-/{as_browser}").url == ascii_url


def test_a_source_is_a_job() -> None:
    assert read(write("contours", {"style": "light"}, JOB)) == Asked("contours", {"style": "light"}, JOB, None, None)


@pytest.mark.parametrize(
    "source",
    [
        "..",
        "photo.jpg",
        "https:%2F%2F",
        "ftp%3A%2F%2Fexample.org%2Fx",
        "https%3a%2f%2fexample.org",  # one way to write it: capitals
        "https%3A%2F%2Fexample.org%2F%FF",
        "%",
        "A",
        base64.urlsafe_b64encode("https://exämple.org".encode()).decode().rstrip("="),
    ],
)
def test_another_source_is_refused(source: str) -> None:
    with pytest.raises(InvalidRequestError, match="source"):
        read(f"/crop/-/{source}")


OPTIONS: Mapping[str, Mapping[str, object]] = {
    "-": {},
    "mark=solid,colour=%23ff0000": {"mark": "solid", "colour": "#ff0000"},
    "aspect=16:9": {"aspect": "16:9"},
    "boxes=" + quote(json.dumps([{"x": 1, "y": 2}]), safe=""): {"boxes": [{"x": 1, "y": 2}]},
}


def test_an_id_in_capitals_is_the_same_id() -> None:
    assert read(f"/detect/-/{JOB.upper()}").job_id == JOB
    assert read(write("detect", {}, JOB.upper())).job_id == JOB


@pytest.mark.parametrize("segment", OPTIONS)
def test_options_are_read_as_a_forms_fields(segment: str) -> None:
    assert read(f"/detect/{segment}/{JOB}").values == OPTIONS[segment]


@pytest.mark.parametrize(
    "segment",
    [
        *("mark", "=blur", "mark=blur,", ",mark=blur", "mark=blur,,margin=1", "Mark=blur", "mark=a+b", "mark=a=b"),
        *("mark=%zz", "mark=%2", "mark=%ff", "mark=a,mark=b", "boxes=%5B", "expires=soon", "expires=-1"),
        "boxes=" + "%5B" * 100,
    ],
)
def test_options_of_another_form_are_refused(segment: str) -> None:
    with pytest.raises(InvalidRequestError):
        read(f"/detect/{segment}/{JOB}")


@pytest.mark.parametrize(
    ("operation", "options"),
    [
        ("detect", "mark=none"),
        ("detect", "mark=blu"),
        ("detect", "style=ink"),
        ("detect", "image=x"),
        ("detect", "image_url=x"),
        ("detect", "webhook_url=https:%2F%2Fexample.org"),
        ("crop", "each=true"),
        ("crop", "each=1"),
        ("contours", "face=all"),
        ("contours", "segmentation_map=x"),
        ("generate", "count=2"),
        ("generate", "cache=off"),
        ("generate", "style_image=x"),
        ("generate", "painter=styles"),
        ("generate", "painter=openai"),
        ("generate", "painter=" + quote(json.dumps({"name": "styles"}), safe="")),
    ],
)
def test_what_makes_not_one_picture_is_refused(operation: str, options: str) -> None:
    asked = read(f"/{operation}/{options}/{JOB}")
    with pytest.raises(LimnerError) as raised:
        values_for(CATALOGUE[operation], asked)
    assert raised.value.status == 422


@pytest.mark.parametrize("operation", ["samples", "pipeline", "jobs", "detec"])
def test_other_operations_have_no_pictures_by_url(operation: str) -> None:
    with pytest.raises(NotFoundError):
        read(f"/{operation}/-/{JOB}")


def test_a_drawing_is_the_same_each_time() -> None:
    assert values_for(CATALOGUE["generate"], read(f"/generate/style=ink/{JOB}")) == {"seed": 0, "style": "ink"}
    assert values_for(CATALOGUE["generate"], read(f"/generate/seed=7/{JOB}")) == {"seed": "7"}


def test_a_url_expires() -> None:
    soon = int(time.time()) + 100
    assert 98 <= (signed_url.seconds_left(read(write("crop", {}, JOB, expires=soon))) or 0) <= 100
    assert signed_url.seconds_left(read(write("crop", {}, JOB))) is None
    with pytest.raises(BadSignatureError, match="expired"):
        signed_url.seconds_left(read(write("crop", {}, JOB, expires=soon - 200)))
