"""The Ray engine without Ray: a stand-in that runs tasks at once; with Ray: test_sweep_slow."""

import sys
from types import SimpleNamespace

import pytest

from scripts import sweep
from sweep import ray_engine
from sweep.execution import Outcome, State
from sweep.ray_engine import run_on_ray
from sweep.runs import list_runs
from sweep.settings import Settings

RUNS = list_runs("base_to_novel", ["mmrl"], ["eurosat"], [1, 2])


class Failed:
    """A reference to a task that raised, as Ray's are: it raises where it is read."""

    def __init__(self, error):
        self.error = error


def stand_in():
    def get(reference):
        if isinstance(reference, Failed):
            raise reference.error
        return reference

    def remote(**options):
        def bind(function):
            def call(*args):
                try:
                    return function(*map(get, args))
                except Exception as error:
                    return Failed(RuntimeError(f"traceback of {error}\n  line\n{error}"))

            return SimpleNamespace(remote=call)

        return bind

    return SimpleNamespace(
        init=lambda **_: None, cluster_resources=dict, remote=remote, get=get
    )  # fmt: skip


@pytest.fixture
def ray(monkeypatch):
    module = stand_in()
    monkeypatch.setitem(sys.modules, "ray", module)
    return module


def test_a_task_that_raises_is_that_run_s_failure_and_its_evaluation_s(ray, monkeypatch, capsys):
    def execute(run, settings, environment, training):
        if run == RUNS[0]:
            raise OSError("the worker died")
        return Outcome(State.FINISHED)

    monkeypatch.setattr(ray_engine, "execute", execute)
    outcomes = run_on_ray(RUNS, Settings("/data"), None)
    assert outcomes.keys() == set(RUNS)
    assert outcomes[RUNS[0]] == Outcome(State.FAILED, "RuntimeError: the worker died")
    assert outcomes[RUNS[1]].state is State.FAILED
    assert {outcomes[run].state for run in RUNS[2:]} == {State.FINISHED}
    assert sweep.summarise(RUNS, outcomes) == 1
    text = capsys.readouterr().out
    assert "failed: MMRL eurosat base 16-shot seed 1: RuntimeError: the worker died" in text
    assert "traceback" not in text


@pytest.mark.parametrize("where", ["file", "/proc/x"])
def test_an_output_that_cannot_be_made(ray, where, recorder, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setenv("PYTHON", recorder["PYTHON"])
    words = ["base_to_novel", "--datasets", "eurosat", "--methods", "mmrl", "--root", "/data"]
    code = sweep.main([*words, "--engine", "ray", "--output", str(tmp_path / where)])
    text = capsys.readouterr().out
    assert code == 1
    assert text.count("cannot use ") == 2 * 3  # as it ended, and in the summary
    assert text.count("its training failed") == 2 * 3


def test_without_ray_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert sweep.main(["base_to_novel", "--engine", "ray", "--root", "/data"]) == 2
    assert "pip install -r requirements-cluster.txt" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "variable", "is_local"),
    [(None, "", True), (None, "head:6379", False), ("auto", "", False)],
)
def test_a_ray_of_our_own_listens_to_this_machine_alone(
    address, variable, is_local, ray, monkeypatch
):
    given = {}
    ray.init = lambda **options: given.update(options)
    monkeypatch.setenv("RAY_ADDRESS", variable)
    run_on_ray([], Settings("data"), address)
    assert given["address"] == address
    assert given.get("_node_ip_address") == ("127.0.0.1" if is_local else None)
    assert given.get("include_dashboard") == (False if is_local else None)
