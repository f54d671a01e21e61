"""Keys, roles, and which call needs which."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from engine.errors import InvalidArgument, PermissionDenied, Unauthenticated
from engine.server.auth import ApiKeys
from engine.server.methods import METHODS, Role, role_needed

READ, WRITE, ADMIN = "r" * 20, "w" * 20, "a" * 20
KEYS = ApiKeys.parse([f"read:{READ}", f"write:{WRITE}", f"admin:{ADMIN}"], "test")


@pytest.mark.parametrize("name", sorted(METHODS))
@pytest.mark.parametrize(("key", "role"), [(READ, Role.READ), (WRITE, Role.WRITE), (ADMIN, Role.ADMIN)])
def test_a_key_opens_the_methods_of_its_role_and_below(name: str, key: str, role: Role):
    path = f"/engine.v1.Engine/{name}"
    if role >= METHODS[name].role:
        KEYS.check(path, f"Bearer {key}")
    else:
        with pytest.raises(PermissionDenied):
            KEYS.check(path, f"Bearer {key}")


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        READ,
        f"Basic {READ}",
        f"Bearer {READ[:-1]}",
        f"Bearer {READ}x",
        "Bearer é",
        b"Bearer",
    ],
)
@pytest.mark.parametrize("path", ["/engine.v1.Engine/Query", "/engine.v1.Engine/Nothing", "/other/Method", "", "/"])
def test_without_a_right_key_nothing_opens(authorization: str | None, path: str):
    with pytest.raises(Unauthenticated):
        KEYS.check(path, authorization)


def test_the_scheme_is_not_case_sensitive():
    KEYS.check("/engine.v1.Engine/Query", f"bearer {READ}")


def test_health_is_open():
    KEYS.check("/grpc.health.v1.Health/Check", None)
    KEYS.check("/grpc.health.v1.Health/Watch", None)
    assert role_needed("/grpc.health.v1.HealthX/Check") is not None


def test_without_keys_everybody_is_admin():
    ApiKeys(()).check("/engine.v1.Engine/DropCollection", None)


def test_a_digest_stands_for_its_key():
    digest = hashlib.sha256(b"correct horse battery").hexdigest()
    keys = ApiKeys.parse([f"write:sha256:{digest}"], "test")
    assert keys.role_of("correct horse battery") is Role.WRITE
    assert keys.role_of(digest) is None


def test_a_key_given_twice_has_its_highest_role():
    assert ApiKeys.parse([f"read:{READ}", f"admin:{READ}"], "test").role_of(READ) is Role.ADMIN


@pytest.mark.parametrize(
    "entry",
    [
        "justakey",
        "root:" + "k" * 20,
        "read:short",
        "read:",
        "read:sha256:12",
        "read:sha256:" + "z" * 64,
        "read:" + "é" * 20,
    ],
)
def test_a_bad_entry_is_refused_without_repeating_the_key(entry: str):
    with pytest.raises(InvalidArgument) as caught:
        ApiKeys.parse(["# comment", "", entry], "keys.txt")
    assert "keys.txt, entry 3" in str(caught.value)
    assert entry.partition(":")[2] not in str(caught.value).replace("role:key", "") or not entry.partition(":")[2]


def test_a_file_and_direct_entries_add_up(tmp_path: Path):
    path = tmp_path / "keys"
    path.write_text(f"# keys\nread:{READ}\n")
    path.chmod(0o600)
    keys = ApiKeys.load(path, [f"admin:{ADMIN}"])
    assert keys.role_of(READ) is Role.READ
    assert keys.role_of(ADMIN) is Role.ADMIN


@pytest.mark.parametrize("content", ["", "# only a comment\n\n"])
def test_an_empty_file_does_not_open_the_server(tmp_path: Path, content: str):
    path = tmp_path / "keys"
    path.write_text(content)
    with pytest.raises(InvalidArgument, match="holds no key"):
        ApiKeys.load(path)


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(InvalidArgument, match="cannot be read"):
        ApiKeys.load(tmp_path / "nothing")


def test_a_file_that_others_can_read_is_warned_about(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "keys"
    path.write_text(f"read:{READ}\n")
    path.chmod(0o644)
    ApiKeys.load(path)
    assert "chmod 600" in caplog.text


def test_keys_are_not_kept_in_the_clear():
    assert READ not in repr(vars(KEYS))
