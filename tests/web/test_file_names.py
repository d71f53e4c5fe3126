"""Names of files made of labels are safe on every system."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.web.compress import accepts_gzip
from limner.web.file_names import MAX_STEM, disposition, safe_stem
from limner.web.rerun_routes import merge_patch


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("IMG_0001.jpg", "IMG_0001"),
        ("IMG.0001.JPEG", "IMG.0001"),
        ("notes.txt", "notes.txt"),
        ("../../etc/passwd", "_.._etc_passwd"),
        ("C:\\Windows\\a.png", "C__Windows_a"),
        ('a"b;c%d.png', "a_b_c_d"),
        ("\u202egpj.exe", "gpj.exe"),
        ("CON", "_CON"),
        ("nul.tar", "_nul.tar"),
        ("lpt1 .x", "_lpt1 .x"),
        ("....", ""),
        (".jpg", "jpg"),
        ("Ferien in Köln 🙂.heic", "Ferien in Köln 🙂"),
        ("x" * 200, "x" * MAX_STEM),
    ],
)
def test_stems(label: str, expected: str) -> None:
    assert safe_stem(label) == expected


@given(st.text(max_size=200))
def test_no_stem_is_dangerous(label: str) -> None:
    stem = safe_stem(label)
    assert not set(stem) & set('<>:"/\\|?*%;\0\r\n')
    assert stem == stem.strip(" .")
    assert len(stem) <= MAX_STEM + 1
    header = disposition(f"{stem}.jpg")
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2


@pytest.mark.parametrize(
    ("stem", "plain"),
    [
        ("Ferien in Köln", "Ferien in Koln.jpg"),
        ("a＂； filename=b％2F／c＼d", "a__ filename=b_2F_c_d.jpg"),  # full width: their ASCII forms are forbidden
        ("🙂", "photo.jpg"),
        ("ﷺ", "photo.jpg"),
    ],
)
def test_the_name_for_old_clients(stem: str, plain: str) -> None:
    assert safe_stem(stem) == stem
    assert disposition(f"{stem}.jpg").startswith(f'inline; filename="{plain}"; ')


@pytest.mark.parametrize(
    ("target", "patch", "result"),  # RFC 7396, appendix A
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: object, patch: object, result: object) -> None:
    assert merge_patch(target, patch) == result


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], False),
        (["gzip"], True),
        (["GZIP, br"], True),
        (["br", "gzip;q=0.1"], True),
        (["gzip; q=0"], False),
        (["gzip;q=0.000"], False),
        (["*"], True),
        (["*;q=0"], False),
        (["identity, *;q=0.2"], True),
        (["gzip;q=0, *"], False),
        (["xgzip"], False),
        ([";;,,="], False),
    ],
)
def test_accept_encoding(given: list[str], expected: bool) -> None:
    assert accepts_gzip(given) == expected
