"""What a command talks to: given by an option, else by the environment; and where its output lies in a Ray job."""

import argparse
from pathlib import Path

import pytest

from orchestrator.plan.services import (
    OUTPUT_IN_A_JOB,
    add_cluster_options,
    cluster_of,
    from_environment,
    in_ray_job,
    output_folder,
)
from sr_models.errors import InputError


@pytest.mark.parametrize(
    ("given", "variable", "found"),
    [("a", "b", "a"), ("a", None, "a"), (None, "b", "b"), ("", "b", "b"), (None, "", None), (None, None, None)],
)
def test_an_option_comes_before_the_environment(monkeypatch, given, variable, found):
    monkeypatch.delenv("SR_TEST_SERVICE", raising=False)
    if variable is not None:
        monkeypatch.setenv("SR_TEST_SERVICE", variable)
    assert from_environment(given, "SR_TEST_SERVICE") == found


@pytest.mark.parametrize(
    ("arguments", "address", "may_add", "anonymous"),
    [
        ([], "of:1", "2x4", False),
        (["--address", "mine:2"], "mine:2", "2x4", False),
        (["--may-add", "8x16+1", "--allow-anonymous"], "of:1", "8x16+1", True),
    ],
)
def test_the_cluster_that_a_command_is_to_run_on(monkeypatch, arguments, address, may_add, anonymous):
    monkeypatch.setenv("RAY_ADDRESS", "of:1")
    monkeypatch.setenv("SR_MAY_ADD", "2x4")
    parser = argparse.ArgumentParser()
    add_cluster_options(parser)
    found = cluster_of(parser.parse_args(arguments))
    assert found == {"address": address, "may_add": may_add, "allow_anonymous": anonymous}


@pytest.fixture
def job(tmp_path, monkeypatch):
    """This process stands in the folder that a Ray job was unpacked into."""
    folder = tmp_path / "session" / "runtime_resources" / "working_dir_files" / "_ray_pkg_0123"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_runs_lie_beside_whoever_starts_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not in_ray_job()
    assert str(output_folder(None)) == "runs"
    assert output_folder(tmp_path / "there") == tmp_path / "there"


def test_runs_of_a_job_lie_where_the_next_job_finds_them(job):
    assert in_ray_job()
    assert output_folder(None) == job / OUTPUT_IN_A_JOB.removeprefix("~/")
    assert output_folder(job / "there") == job / "there"
    assert output_folder(Path("~/mine")) == job / "mine"


def test_a_folder_that_goes_with_the_job_is_refused(job):
    with pytest.raises(InputError, match=r"^--output: 'runs' lies in the job's own copy .*; give an absolute"):
        output_folder(Path("runs"))
