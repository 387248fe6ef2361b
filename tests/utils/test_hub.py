"""Publishing on the hub: refused at the start in one line, and never a reason to lose a model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from tests.helpers.forked import run
from utils.errors import UserError
from utils.hub import check_hub, publish


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("no network"), "the hub cannot be reached; leave the flag out"),
        (LocalTokenNotFoundError("no token"), "the hub does not know you; hf auth login"),
        (HfHubHTTPError("x", response=SimpleNamespace(status_code=401, headers={}, request=None)), "hf auth login"),
        (HfHubHTTPError("x", response=SimpleNamespace(status_code=503, headers={}, request=None)), "error 503"),
    ],
)
def test_what_stands_in_the_way_is_one_line(error, message, monkeypatch):
    def fail(self):
        raise error

    monkeypatch.setattr("huggingface_hub.HfApi.whoami", fail)
    with pytest.raises(UserError, match=message) as told:
        check_hub("owner/model")
    assert "\n" not in str(told.value)


def test_a_name_that_the_hub_cannot_have():
    with pytest.raises(UserError, match="not a name of the hub"):
        check_hub("a/b/c")


def cut_off() -> None:
    """Called in the child: it reaches no hub."""

    def fail(self: object) -> None:
        raise OSError("no network")

    HfApi.whoami = fail  # type: ignore[assignment]


def test_a_run_without_a_network_is_refused_before_it_begins(raw_data, tmp_path):
    words = ["--train_data_path", raw_data[0], "--val_data_path", raw_data[1], "--model_name", "scratch:tiny"]
    words += ["--output_dir", tmp_path / "run", "--push_to_hub", "owner/model", "--device", "cpu"]
    told = run("train_codet5_assertions.py", *words, code=2, fault=cut_off)
    assert "--push_to_hub owner/model: the hub cannot be reached" in told
    assert not (tmp_path / "run").exists()


def test_the_folder_is_uploaded_privately_or_its_failure_told(monkeypatch, tmp_path):
    asked: list[tuple] = []
    said: list[str] = []

    class Api:
        def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> str:
            asked.append((name, private, exist_ok))
            return f"https://hub/{name}"

        def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
            asked.append((repo_id, folder_path))
            if len(asked) > 2:
                raise OSError("line\nbroke")

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    publish("owner/model", tmp_path, said.append)
    assert asked == [("owner/model", True, True), ("owner/model", tmp_path)] and said == [
        "published: https://hub/owner/model"
    ]
    publish("owner/model", tmp_path, said.append)
    assert "not published (OSError: line broke); hf upload owner/model" in said[-1]
