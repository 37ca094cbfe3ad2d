"""The search for tokens and secrets in all that a session of tests has logged."""

import time
from pathlib import Path

import jwt

from tests.support.leaks import SECRETS, leaks_in, leaks_in_captured, leaks_in_files

KEY = "a key of thirty-two bytes, or some more"
LINE = "2026-01-02 INFO uvicorn.error GET /x?token="


def a_token() -> str:
    return jwt.encode({"sub": "alice", "exp": int(time.time())}, KEY, "HS256")


def test_a_token_is_known_by_its_form_and_shown_in_part() -> None:
    token = a_token()
    [leak] = leaks_in(f"before\n{LINE}{token} HTTP/1.1")
    assert leak.endswith(f"{LINE}{token[:12]}")
    assert token not in leak
    # The header of a token says nothing.
    assert list(leaks_in(f"{LINE}{token.partition('.')[0]}... and eyJ")) == []


def test_secrets_of_tests_are_found_at_each_place() -> None:
    assert len(list(leaks_in(" and ".join(SECRETS) + SECRETS[0]))) == len(SECRETS) + 1


def test_log_files_of_processes_are_searched_and_segments_of_brokers_are_not(
    tmp_path: Path,
) -> None:
    text = LINE + a_token()
    for name in ("0" * 20 + ".log", "edge.txt"):
        (tmp_path / name).write_text(text)
    assert list(leaks_in_files(tmp_path)) == []
    (tmp_path / "inner").mkdir()
    for name in ("edge-1.log", "edge-1.log.1"):
        (tmp_path / "inner" / name).write_bytes(b"\xff" + text.encode())
    found = list(leaks_in_files(tmp_path))
    assert [leak.partition(": ")[0] for leak in found] == [
        str(tmp_path / "inner" / name) for name in ("edge-1.log", "edge-1.log.1")
    ]
    for path in tmp_path.rglob("edge-1.*"):
        path.unlink()  # else the session would find them


def test_what_this_system_logs_in_a_test_is_searched_and_lines_of_clients_are_not() -> None:
    theirs = f"INFO     httpx:_client.py:1740 HTTP Request: GET http://x/?token={a_token()}"
    ours = f"WARNING  sse_edge.http.auth:auth.py:49 refused {a_token()}"
    assert list(leaks_in_captured([("Captured log call", theirs)])) == []
    [leak] = leaks_in_captured([("Captured log call", f"{theirs}\n{ours}")])
    assert leak.startswith("Captured log call: WARNING  sse_edge.http.auth")
    assert list(leaks_in_captured([("Captured stdout call", ours)])) == []
