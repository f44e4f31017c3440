"""What lies where in a run folder: other programs and older runs rely on it."""

import pickle

from orchestrator.run.folder import STORES, RunDir


def test_what_lies_where(tmp_path):
    run, fingerprint = RunDir(tmp_path / "quick-1a2b3c4d"), "0123456789abcdef" + "f" * 48
    assert run.name == "quick-1a2b3c4d"
    places = {
        name: getattr(run, name).relative_to(run.path).as_posix()
        for name in ("config", "plan", "winners", "roles", "home", "tracking", "evaluation", "pictures")
    }
    assert places == {
        "config": "config.yaml", "plan": "plan.json", "winners": "winners.json", "roles": "roles.jsonl",
        "home": "home.json", "tracking": "tracking.json", "evaluation": "evaluation", "pictures": "pictures",
    }  # fmt: skip
    assert run.output == tmp_path and run.at("a/b") == run.path / "a" / "b" and run.at("") == run.path
    assert run.trial(fingerprint) == tmp_path / "shared" / "trials" / "0123456789abcdef"
    for name in ("shared/trials/0123456789abcdef", "evaluation/a.parquet"):
        assert run.name_of(run.at(name)) == name
    assert run.at(STORES) == tmp_path / "shared" / "store" and run.name_of(run.at(STORES)) == STORES
    assert run.init(fingerprint) == run.path / "init" / "0123456789abcdef.safetensors"
    assert not run.path.exists(), "naming a place makes nothing"


def test_the_studies_url_does_not_depend_on_where_the_process_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunDir(type(tmp_path)("runs/x"))
    assert run.studies_url == f"sqlite:///{tmp_path.resolve()}/runs/x/studies.db"


def test_a_folder_keeps_its_random_name_and_another_one_has_its_own(tmp_path):
    run = RunDir(tmp_path / "a")
    found = run.id
    assert len(found) == 16 and int(found, 16) >= 0
    assert run.id == RunDir(tmp_path / "a").id == pickle.loads(pickle.dumps(run)).id == found
    assert RunDir(tmp_path / "b").id != found
    assert (tmp_path / "a" / "run.id").read_text() == found + "\n"


def test_a_run_of_an_earlier_version_has_its_own_trials(tmp_path):
    run, fingerprint = RunDir(tmp_path / "quick-1a2b3c4d"), "0123456789abcdef" + "f" * 48
    own = run.path / "trials" / "0123456789abcdef"
    own.mkdir(parents=True)
    assert run.trial(fingerprint) == own and run.name_of(own) == "trials/0123456789abcdef"
