"""The file of API keys: what it may hold, and how faults are told."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.auth import key_file
from gateway.auth.key_file import Keys, digest_of, parse
from gateway.auth.limits import UNLIMITED
from scheduler.core.errors import ConfigurationError
from scheduler.core.ids import Holder
from scheduler.core.quotas import Quotas

pytestmark = pytest.mark.unit

KEY = "rk_of_the_web"
ENTRY = {"id": "web", "sha256": digest_of(KEY), "tenant": "acme"}


def text(*entries: dict[str, Any]) -> str:
    return yaml.safe_dump({"keys": list(entries)})


def only(**fields: Any) -> key_file.KeyRecord:
    (record,) = parse(text(ENTRY | fields)).records
    return record


def test_what_is_not_said_is_not_limited() -> None:
    record = only()
    assert (record.key_id, record.tenant) == ("web", "acme")
    assert record.scopes == {"session"}
    assert (record.models, record.limits, record.expires_at) == (None, UNLIMITED, None)
    assert only(models="all").models is None


def test_all_that_can_be_said() -> None:
    record = only(
        scopes=["session", "operator"],
        models=["painter", "reactor/sana-streaming"],
        max_sessions=3,
        max_session_duration="10m",
        expires="2027-01-31T12:00:00+01:00",
    )
    assert record.scopes == {"session", "operator"}
    assert record.models == {"painter", "reactor/sana-streaming"}
    assert (record.limits.max_sessions, record.limits.max_session_duration) == (3, 600.0)
    assert record.expires_at == dt.datetime(2027, 1, 31, 11, tzinfo=dt.UTC).timestamp()


@pytest.mark.parametrize("written", ["2027-01-31", "2027-01-31 00:00:00", "'2027-01-31'"])
def test_a_date_is_in_utc(written: str) -> None:
    keys = parse(text(ENTRY).rstrip("\n") + f"\n  expires: {written}\n")
    (record,) = keys.records
    assert record.expires_at == dt.datetime(2027, 1, 31, tzinfo=dt.UTC).timestamp()


@pytest.mark.parametrize("content", ["keys:\n", "keys: []\n", "# nobody yet\nkeys:\n"])
def test_a_file_without_keys_is_one(content: str) -> None:
    assert parse(content).records == ()


FAULTS = [
    (ENTRY | {"sha256": KEY}, "'web' sha256: String should match"),
    (ENTRY | {"key": KEY}, "'web' key: is no field of it"),
    (ENTRY | {"max_session": 3}, "'web' max_session: is no field of it"),
    (ENTRY | {"id": 5}, "entry 1 id: "),
    (ENTRY | {"id": "two words"}, "'two words' id: "),
    (ENTRY | {"tenant": ""}, "'web' tenant: "),
    (
        ENTRY | {"scopes": ["root"]},
        "'web' scopes 0: Input should be 'model', 'session' or 'operator'",
    ),
    (ENTRY | {"scopes": []}, "'web' scopes: "),
    (ENTRY | {"models": []}, "'web' models "),
    (ENTRY | {"models": "painter"}, "'web' models "),
    (ENTRY | {"max_sessions": 0}, "'web' max_sessions: "),
    (ENTRY | {"max_sessions": True}, "'web' max_sessions: "),
    (ENTRY | {"max_session_duration": "long"}, "'web' max_session_duration: is a time"),
    (ENTRY | {"max_session_duration": 0}, "'web' max_session_duration: "),
    (ENTRY | {"max_session_duration": float("nan")}, "'web' max_session_duration: "),
    (ENTRY | {"expires": "soon"}, "'web' expires: is a date"),
    (ENTRY | {"expires": 30}, "'web' expires: is a date"),
    ({"id": "web"}, "'web' sha256: is missing; 'web' tenant: is missing"),
    ("web", "entry 1: is to be a mapping"),
]


@pytest.mark.parametrize(("entry", "told"), FAULTS)
def test_a_fault_is_told_with_its_entry_and_field_and_without_its_value(
    entry: Any, told: str
) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        parse(text(entry))
    assert told in str(refusal.value)
    assert KEY not in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "the file: is to be a mapping"),
        ("- id: web", "the file: is to be a mapping"),
        ("keys: rk_secret", "keys: is to be a list"),
        ("keys: []\nkey: rk_secret", "key: is no field of it"),
        ("keys:\n- id: a\n  id: rk_secret", "line 3 has a name for the second time"),
        ("keys: []\nkeys: []", "line 2 has a name for the second time"),
        ("keys: [\nrk_secret", "is not YAML"),
        ("keys: !!python/object/apply:os.system [rk_secret]", "line 1 is not YAML"),
        ("keys: &a [*a]", "entry 1: is to be a mapping"),
        ("keys: 2027-99-99", "is not YAML"),
        ("? [rk_secret]\n: b", "is not YAML"),
        ("\0", "is not YAML"),
        ("[" * 5000, "more than 16 levels"),
        ("[" * 300_000, "more than 16 levels"),
        ("keys: !!map [rk_secret]", "is not YAML"),
        ("keys:\n- !!set [rk_secret]", "is not YAML"),
        ("keys: !!bool rk_secret", "is not YAML"),
        ("keys: !!timestamp rk_secret", "is not YAML"),
        ("keys: !!int ''", "is not YAML"),
        ("keys: !!set {rk_secret}", "entry 1: is to be a mapping"),
        ("x" * (key_file.MOST_BYTES + 1), "more than"),
    ],
)
def test_what_is_no_file_of_keys_is_refused_without_showing_it(content: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        parse(content)
    assert told in str(refusal.value)
    assert "rk_secret" not in str(refusal.value)


_TAGS = ("map", "set", "seq", "omap", "pairs", "bool", "int", "float", "null", "str", "binary")
_WORDS = ("id", "keys", "expires", "<<", "~", "yes", "0x", "1:2", "2027-99-99", "''", "&a", "*a")
_YAML_ISH = st.lists(
    st.sampled_from([f"!!{tag} " for tag in (*_TAGS, "timestamp", "merge", "nothing")])
    | st.sampled_from([f"{word} " for word in _WORDS])
    | st.sampled_from(["\n", "\n- ", "\n  ", ": ", ", ", "[", "]", "{", "}", "? ", "|\n", "# "])
).map("".join)


@given(st.text(max_size=60) | _YAML_ISH | _YAML_ISH.map("keys:\n- {}".format))
@settings(max_examples=400)
def test_no_text_makes_the_reader_raise_anything_else(content: str) -> None:
    try:
        parse(content)
    except ConfigurationError:
        return


def test_ids_and_keys_come_once() -> None:
    with pytest.raises(ConfigurationError, match="the id 'web' comes twice"):
        parse(text(ENTRY, ENTRY | {"sha256": digest_of("another")}))
    with pytest.raises(ConfigurationError, match="'web' and 'app' have the same key") as refusal:
        parse(text(ENTRY, ENTRY | {"id": "app"}))
    assert digest_of(KEY) not in str(refusal.value)


@pytest.mark.parametrize(
    "shown",
    ["", "rk_", KEY + " ", KEY.upper(), "schlüssel", "\udcff", "\0", "x" * 10_000, digest_of(KEY)],
)
def test_another_key_is_not_found(shown: str) -> None:
    assert parse(text(ENTRY)).find(shown) is None


def test_a_key_is_found_by_its_hash_which_is_compared_in_constant_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keys, compared = parse(text(ENTRY)), []

    def compare(one: str, other: str) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr(key_file.hmac, "compare_digest", compare)
    assert keys.find(KEY) is keys.by_id["web"]
    assert compared == [(digest_of(KEY), digest_of(KEY))]
    monkeypatch.setattr(key_file.hmac, "compare_digest", lambda *_: False)
    assert keys.find(KEY) is None


def test_no_hash_shows_in_the_records() -> None:
    assert digest_of(KEY) not in repr(parse(text(ENTRY)).records)
    assert digest_of(KEY) not in repr(Keys(parse(text(ENTRY)).records))


def test_a_file_that_cannot_be_read_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"No such file.*sana-gateway keys new"):
        key_file.read(tmp_path / "keys.yaml")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="not text"):
        key_file.read(tmp_path / "binary")


QUOTAS = {
    "sessions_per_minute": 30,
    "streamed_per_day": "20h",
    "streamed_per_month": 3600,
    "uploads_per_session": "1G",
    "uploads_per_day": 5,
    "stored": "10G",
}


def test_keys_and_tenants_have_the_same_quotas_by_the_same_names() -> None:
    quotas = Quotas(30, 72_000.0, 3600.0, 2**30, 5, 10 * 2**30)
    assert only(**QUOTAS).limits.quotas() == quotas
    keys = parse(yaml.safe_dump({"keys": [ENTRY], "tenants": {"acme": QUOTAS}}))
    assert keys.tenants["acme"].holder("tenant:acme") == Holder("tenant:acme", None, quotas)
    assert parse(text(ENTRY)).tenants == {}


@pytest.mark.parametrize("name", [*QUOTAS, "max_sessions", "max_session_duration"])
@pytest.mark.parametrize("value", [0, -1, "much", True, []])
def test_a_quota_that_makes_no_sense_is_refused_by_its_name(name: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=f"'web' {name}: "):
        only(**{name: value})
    with pytest.raises(ConfigurationError, match=f"tenants acme {name}: "):
        parse(yaml.safe_dump({"keys": [], "tenants": {"acme": {name: value}}}))


def test_a_tenant_of_another_form_is_refused() -> None:
    for tenants in ({"acme": {"scopes": []}}, {"a b": {}}, ["acme"], {"acme": 5}):
        with pytest.raises(ConfigurationError, match="tenants"):
            parse(yaml.safe_dump({"keys": [], "tenants": tenants}))
