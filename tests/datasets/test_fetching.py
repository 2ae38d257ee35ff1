"""Downloads, from a server on this machine."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from skmlmc.datasets._fetching import data_folder, fetch

CONTENT = b"harmless content\n" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Answers with the behaviours in `plan`, one a request, then with the whole file."""

    plan: list = []
    requests = 0

    def do_GET(self):  # noqa: N802
        type(self).requests += 1
        behaviour = self.plan.pop(0) if self.plan else "whole"
        if behaviour == "unavailable":
            self.send_error(503)
            return
        content = b"something else" if behaviour == "wrong" else CONTENT
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if behaviour == "half" else content)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    handler = type("Plan", (Handler,), {"plan": [], "requests": 0})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
        thread.start()
        handler.url = f"http://127.0.0.1:{httpd.server_port}/some/file.csv"
        yield handler
        httpd.shutdown()
        thread.join()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_downloaded_once(server, tmp_path):
    for _ in range(2):
        path = fetch(server.url, tmp_path, sha256=SHA256)
        assert path == tmp_path / "file.csv"
        assert path.read_bytes() == CONTENT
    assert server.requests == 1
    assert names(tmp_path) == ["file.csv"]


def test_a_file_put_there_by_hand_is_used(tmp_path):
    (tmp_path / "file.csv").write_bytes(CONTENT)
    url = "http://127.0.0.1:9/nowhere/file.csv"
    assert fetch(url, tmp_path, sha256=SHA256, download_if_missing=False) == tmp_path / "file.csv"


@pytest.mark.parametrize("failure", ["unavailable", "half"])
def test_failures_are_tried_again(server, tmp_path, failure):
    server.plan += [failure, failure]
    with pytest.warns(UserWarning, match="Retry downloading"):
        path = fetch(server.url, tmp_path, sha256=SHA256, n_retries=2, delay=0)
    assert path.read_bytes() == CONTENT
    assert server.requests == 3
    assert names(tmp_path) == ["file.csv"]


@pytest.mark.parametrize("failure", ["unavailable", "half"])
def test_a_failed_download_leaves_nothing_and_the_next_call_starts_anew(server, tmp_path, failure):
    server.plan += [failure]
    with pytest.raises(OSError, match="Could not download") as caught:
        fetch(server.url, tmp_path, n_retries=0)
    for part in (server.url, str(tmp_path), "file.csv"):
        assert part in str(caught.value)
    assert names(tmp_path) == []
    assert fetch(server.url, tmp_path).read_bytes() == CONTENT


def test_what_arrives_with_a_wrong_checksum_is_kept_aside(server, tmp_path):
    server.plan += ["wrong"]
    with pytest.raises(OSError, match=f"Expected file.csv with the SHA-256 checksum {SHA256}") as caught:
        fetch(server.url, tmp_path, sha256=SHA256)
    assert "file.csv.wrong-checksum" in str(caught.value)
    assert names(tmp_path) == ["file.csv.wrong-checksum"]
    assert (tmp_path / "file.csv.wrong-checksum").read_bytes() == b"something else"
    assert fetch(server.url, tmp_path, sha256=SHA256).read_bytes() == CONTENT


def test_a_file_that_is_there_with_a_wrong_checksum_is_kept_aside(server, tmp_path):
    (tmp_path / "file.csv").write_bytes(CONTENT[:100])
    with pytest.warns(UserWarning, match="another checksum.*kept as file.csv.wrong-checksum and not used"):
        assert fetch(server.url, tmp_path, sha256=SHA256).read_bytes() == CONTENT
    assert (tmp_path / "file.csv.wrong-checksum").read_bytes() == CONTENT[:100]
    assert server.requests == 1


def test_a_wrong_file_is_not_used_without_a_download_either(tmp_path):
    (tmp_path / "file.csv").write_bytes(b"old")
    with (
        pytest.warns(UserWarning, match="another checksum"),
        pytest.raises(OSError, match="Data not found and `download_if_missing` is False"),
    ):
        fetch("http://127.0.0.1:9/file.csv", tmp_path, sha256=SHA256, download_if_missing=False)
    assert names(tmp_path) == ["file.csv.wrong-checksum"]


@pytest.mark.parametrize("wrong", [{"n_retries": -1}, {"delay": -0.5}])
def test_numbers_below_zero_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match="expected 0 or more"):
        fetch("http://127.0.0.1:9/file.csv", tmp_path, **wrong)


def test_folders_lie_in_scikit_learns_data_home(tmp_path, monkeypatch):
    assert data_folder(tmp_path / "here", "mine") == tmp_path / "here" / "skmlmc" / "mine"
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "home"))
    assert data_folder(None, "mine") == tmp_path / "home" / "skmlmc" / "mine"
    assert (tmp_path / "home" / "skmlmc" / "mine").is_dir()
