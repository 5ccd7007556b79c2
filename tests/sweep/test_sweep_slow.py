"""24 real runs, killed at ten random moments; two schedulers; Ray with a node that dies; SLURM."""

import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import REPOSITORY, write_eurosat
from recording import SMALL, WATCHDOG_S, clean_environment, recorded, wait_until
from scripts import report

pytestmark = pytest.mark.slow

OPTIONS = [
    *("INPUT.SIZE", "(32,32)", "DATALOADER.NUM_WORKERS", "0", "OPTIM.MAX_EPOCH", "8"),
    *("TRAINER.MMRL.PREC", "fp32", "TRAINER.MMRLpp.PREC", "fp32"),
    *("TRAINER.MMRL.REP_LAYERS", "[2,3,4]", "TRAINER.MMRLpp.REP_LAYERS", "[2,3,4]"),
    *("TRAINER.MMRL.REP_DIM", "16", "TRAINER.MMRLpp.REP_DIM", "16"),
]


@pytest.fixture(scope="module")
def two_roots(tmp_path_factory):
    """EuroSAT and, of the same pictures, DTD."""
    root = tmp_path_factory.mktemp("data")
    write_eurosat(root, {"train": 16, "val": 2, "test": 8})
    shutil.copytree(root / "eurosat" / "2750", root / "dtd" / "images")
    split = (root / "eurosat" / "split_zhou_EuroSAT.json").read_text()
    (root / "dtd" / "split_zhou_DescribableTextures.json").write_text(split)
    return root


def command(root, out, clip_file, *more):
    return [
        *(sys.executable, "scripts/sweep.py", "base_to_novel", "--datasets", "eurosat,dtd"),
        *("--root", str(root), "--output", str(out), "--backbone", clip_file, "--per-gpu", "2"),
        *more, "--", *OPTIONS,
    ]  # fmt: skip


def start(words):
    environment = os.environ | {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        words, cwd=REPOSITORY, env=environment, start_new_session=True, stdout=subprocess.DEVNULL
    )


def final_csv(out):
    report.main([str(out)])
    return (out / "report" / "report.csv").read_bytes()


def children_of(pid):
    text = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in text for child in path.read_text().split()]


@pytest.fixture(scope="module")
def undisturbed(two_roots, clip_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed")
    assert start(command(two_roots, out, clip_file)).wait() == 0
    assert len(list(out.rglob("results.json"))) == 24
    return final_csv(out)


def finished_at(out):
    return {path: path.stat().st_mtime_ns for path in out.rglob("results.json")}


def test_killed_at_ten_moments_ends_with_the_same_csv(two_roots, clip_file, undisturbed, tmp_path):
    rng = random.Random(0)
    for moment in range(10):
        before = finished_at(tmp_path)
        process = start(command(two_roots, tmp_path, clip_file))
        time.sleep(rng.uniform(2, 9))
        what = ("children", "scheduler", "all")[moment % 3]
        try:
            if what == "children":
                for child in children_of(process.pid):
                    os.kill(child, signal.SIGKILL)
                process.terminate()
            elif what == "scheduler":
                process.kill()
            else:
                os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        after = finished_at(tmp_path)
        assert all(after[path] == stamp for path, stamp in before.items())  # none was done again
    assert start(command(two_roots, tmp_path, clip_file)).wait() == 0
    assert final_csv(tmp_path) == undisturbed


def test_two_schedulers_give_the_same_csv(two_roots, clip_file, undisturbed, tmp_path):
    both = [start(command(two_roots, tmp_path, clip_file)) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert final_csv(tmp_path) == undisturbed
    for console in tmp_path.rglob("console.txt"):
        assert console.read_text().count("Results are in") == 1


CONTAINER = ["unshare", "--pid", "--fork", "--mount-proc", "--uts", "sh", "-c"]
# A sibling user namespace hides its processes behind hidepid, and may write the same files.
HIDDEN = ["unshare", "--user", "--map-root-user"]
TWO_WITHIN = """
mount -t proc -o hidepid=2 proc /proc
"$@" & first=$!
"$@" & second=$!
wait $first && wait $second
"""


def in_two_containers(words):
    return [[*CONTAINER, 'hostname node && exec "$@"', "sh", *words]] * 2


def behind_hidepid(words):
    return [[*CONTAINER, TWO_WITHIN, "sh", *HIDDEN, *words]]


@pytest.mark.parametrize("where", [in_two_containers, behind_hidepid])
def test_schedulers_that_cannot_see_each_other_do_no_run_twice(where, recorder, tmp_path):
    if subprocess.run([*CONTAINER, shlex.join([*HIDDEN, "true"])], check=False).returncode:
        pytest.skip("no right to make namespaces here")
    python = Path(recorder["PYTHON"])
    # Runs that overlap: each scheduler finds those of the other under way.
    python.write_text(python.read_text().replace("shift\n", "shift\nsleep 2\n", 1))
    options = [*SMALL[:3], "--seeds", "1,2,3", "--output", str(tmp_path / "out"), "--per-gpu", "2"]
    words = [sys.executable, "scripts/sweep.py", *options]
    environment = clean_environment(**recorder)
    both = [subprocess.Popen(line, cwd=REPOSITORY, env=environment) for line in where(words)]
    assert [process.wait(timeout=WATCHDOG_S) for process in both] == [0] * len(both)
    folders = [call[call.index("--output-dir") + 1] for call in recorded(recorder)]
    assert len(folders) == len(set(folders)) == 12


@pytest.fixture(scope="module")
def ray_python(tmp_path_factory):
    """This environment with Ray beside it."""
    folder = tmp_path_factory.mktemp("ray")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder), "--no-deps",
         "ray>=2.9"], check=False,
    )  # fmt: skip
    more = "click filelock jsonschema msgpack packaging protobuf pyyaml requests"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "-q", "--target", str(folder), *more.split()],
        check=False,
    )
    if done.returncode:
        pytest.skip("Ray cannot be installed here")
    return folder


def test_ray_finishes_every_run_though_a_node_dies(
    ray_python, two_roots, clip_file, undisturbed, tmp_path
):
    environment = os.environ | {
        "PYTHONPATH": f"{ray_python}:{REPOSITORY}", "PYTHON": sys.executable,
        "CUDA_VISIBLE_DEVICES": "", "RAY_DISABLE_IMPORT_WARNING": "1",
    }  # fmt: skip
    ray = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]

    def call(*words):
        subprocess.run([*ray, *words], env=environment, check=True, stdout=subprocess.DEVNULL)

    call("start", "--head", "--port=6399", "--num-cpus=1", "--include-dashboard=false")
    node = subprocess.Popen(
        [*ray, "start", "--address=127.0.0.1:6399", "--num-cpus=1", "--block"],
        env=environment, start_new_session=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        words = command(
            two_roots, tmp_path, clip_file, "--engine", "ray", "--address", "127.0.0.1:6399"
        )
        sweep = subprocess.Popen(words, cwd=REPOSITORY, env=environment)
        wait_until(
            lambda: len(list(tmp_path.rglob("results.json"))) >= 8 or sweep.poll() is not None
        )
        os.killpg(node.pid, signal.SIGKILL)
        assert sweep.wait(timeout=WATCHDOG_S) == 0
    finally:
        if node.poll() is None:
            os.killpg(node.pid, signal.SIGKILL)
        subprocess.run([*ray, "stop", "--force"], env=environment, check=False)
    assert final_csv(tmp_path) == undisturbed


def test_slurm_array_finishes_every_run(two_roots, clip_file, undisturbed, tmp_path):
    from slurm import SlurmUnavailable, slurm_cluster

    options = command(two_roots, tmp_path / "out", clip_file)[3:]
    environment = os.environ | {
        "DATA": str(two_roots), "PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    (REPOSITORY / "output").mkdir(exist_ok=True)
    try:
        with slurm_cluster(tmp_path) as slurm:
            submit = ["sbatch", "--parsable", "--array=0-3%2", "scripts/slurm.sbatch"]
            done = subprocess.run(
                [*submit, "base_to_novel", *options], cwd=REPOSITORY, env=environment | slurm,
                capture_output=True, text=True, check=True,
            )  # fmt: skip
            queue = ["squeue", "-h", "-j", done.stdout.strip()]

            def is_over():
                left = subprocess.run(queue, env=os.environ | slurm, capture_output=True)
                return not left.stdout.strip()

            wait_until(is_over, every_s=2)
    except SlurmUnavailable as reason:
        pytest.skip(str(reason))
    assert final_csv(tmp_path / "out") == undisturbed
