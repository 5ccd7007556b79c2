"""A number belongs to its settings: what stored files say of themselves, and what is refused."""

import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import predict
import train
from clip import load as load_clip
from clip.model import CLIP
from conftest import EUROSAT_CLASSES, METHOD_OPTIONS, build_cfg, train_arguments, write_eurosat
from dassl.utils import load_checkpoint
from trainer.checkpoints import __main__ as checkpoints
from trainer.checkpoints.identity import (
    Identity,
    check_digest,
    fingerprint,
    first_difference,
    plain_settings,
    seal,
)
from trainer.checkpoints.sizes import adapt_config
from trainer.config import build_config, flatten

MODEL = "MultiModalRepresentationLearner"


@pytest.fixture(scope="module")
def settings():
    return flatten(build_cfg("data", 4, "all"))


@pytest.fixture(scope="module")
def made(settings):
    return Identity("MMRL", plain_settings(settings), ["cat", "dog"], "a" * 64, "b" * 64, "1.0")


CIRCUMSTANCES = {
    "DATASET.ROOT": "/elsewhere",
    "OUTPUT_DIR": "/out",
    "RESUME": "/in",
    "USE_CUDA": False,
    "VERBOSE": False,
    "TRAIN.PRINT_FREQ": 3,
    "TRAIN.CHECKPOINT_FREQ": 3,
    "TRAIN.COMPILE": True,
    "DATALOADER.CACHE_MB": 0,
    "TEST.PREDICTIONS": True,
    "DATASET.CSV": "/other/folder/",
    "DATASET.LABEL": "my birds",
}


@pytest.mark.parametrize("key", CIRCUMSTANCES)
def test_a_circumstance_is_no_difference(key, settings, made):
    wanted = made._replace(settings=plain_settings(settings | {key: CIRCUMSTANCES[key]}))
    assert first_difference(made, wanted) is None


NUMBERS = {"SEED": 2, "OPTIM.LR": 0.5, "DATASET.NUM_SHOTS": 1, "DATALOADER.NUM_WORKERS": 0}
NUMBERS |= {"OPTIM.MAX_EPOCH": 9, "DATASET.SUBSAMPLE_CLASSES": "new", "INPUT.SIZE": (9, 9)}


@pytest.mark.parametrize("key", NUMBERS)
def test_what_changes_numbers_is_named_with_both_values(key, settings, made):
    wanted = made._replace(settings=plain_settings(settings | {key: NUMBERS[key]}))
    found = first_difference(made, wanted)
    before, now = made.settings[key], wanted.settings[key]
    assert found == f"was made with {key} {before}, but {key} is now {now}"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"trainer": "MMRLpp"}, "the trainer MMRL, but it is now MMRLpp"),
        ({"classnames": ["cat"]}, r"2 classes \(cat, dog\), but there are now 1 classes \(cat\)"),
        ({"classnames": ["cat", "cow"]}, "the class 'dog' for label 1, but it is now 'cow'"),
        ({"draw_sha256": "c" * 64}, "other training pictures: .* was aaaaaaaaaaaa and is now cccc"),
        ({"backbone_sha256": "c" * 64}, r"CLIP .*\(fingerprint bbbb.* now .*\(fingerprint cccc"),
    ],
)
def test_trainer_classes_pictures_and_clip_are_compared(change, words, made):
    with pytest.raises(ValueError, match=words):
        raise ValueError(first_difference(made, made._replace(**change)))


def test_the_code_version_is_recorded_and_not_compared(made):
    assert first_difference(made, made._replace(code_version="2.0")) is None


def test_keys_that_an_older_version_lacks_count_as_their_defaults(made):
    older = made._replace(settings={k: v for k, v in made.settings.items() if k != "TEST.PREC"})
    assert first_difference(older, made) is None
    wanted = made._replace(settings=made.settings | {"TEST.PREC": "amp"})
    assert "TEST.PREC is now amp" in first_difference(older, wanted)


def test_one_clip_in_two_formats_has_one_fingerprint(clip_state, clip_file, tmp_path):
    save_file(clip_state, tmp_path / "tiny.safetensors")
    rounded = CLIP.from_state_dict(clip_state).round_to_half()
    models = [load_clip(clip_file), load_clip(str(tmp_path / "tiny.safetensors")), rounded]
    assert len(set(map(fingerprint, models))) == 1
    other = CLIP.from_state_dict(clip_state | {"text_projection": torch.ones(64, 32)})
    assert fingerprint(other) != fingerprint(rounded)


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


CONTENT = {
    "state_dict": {"w": torch.arange(6.0).view(2, 3), "n": torch.tensor(1)},
    "epoch": 2,
    "val_result": None,
    "random_states": [1, [2.5, "text"], True],
}


def test_the_digest_follows_content_not_files(tmp_path, made):
    whole = seal(CONTENT, made)
    torch.save(whole, tmp_path / "x.pt")
    check_digest(load_checkpoint(str(tmp_path / "x.pt")), "x.pt")
    check_digest(json.loads(json.dumps({k: v for k, v in whole.items() if k != "state_dict"}
                                       | {"state_dict": {}}))
                 | {"state_dict": CONTENT["state_dict"]}, "x.json")  # fmt: skip
    assert Identity.read(whole, "x.pt") == made
    assert Identity.read(CONTENT, "x.pt") is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c.update(epoch=3),
        lambda c: c["state_dict"].update(w=c["state_dict"]["w"].t()),
        lambda c: c["state_dict"].update(w=c["state_dict"]["w"] + 1e-6),
        lambda c: c["identity"].update(trainer="MMRLpp"),
        lambda c: c["identity"].pop("digest"),
        lambda c: c.update(identity=[]),
        lambda c: c["identity"].update(settings="text"),
        lambda c: c.update(val_result=nested(5000)),
        lambda c: c.update(more=1),
    ],
)
def test_any_change_is_damage(spoil, made):
    whole = seal(CONTENT | {"state_dict": dict(CONTENT["state_dict"])}, made)
    spoil(whole)
    with pytest.raises(ValueError, match=r"'x\.pt' is damaged: its"):
        Identity.read(whole, "x.pt")


# A finished run and the requests that come after it.


@pytest.fixture(scope="module")
def finished(eurosat_root, clip_file, tmp_path_factory):
    """A run folder of two epochs with a checkpoint each."""
    out = tmp_path_factory.mktemp("finished") / "run"
    assert train.main(request(eurosat_root, out, clip_file)) == 0
    return out


def request(root, out, clip_file, *options):
    common = ["OPTIM.MAX_EPOCH", "2", "TRAIN.CHECKPOINT_FREQ", "1"]
    return [*train_arguments(root, out, clip_file), *common, *options]


@pytest.fixture
def run(finished, tmp_path):
    """A copy to be spoiled."""
    return shutil.copytree(finished, tmp_path / "run")


def content_of(folder):
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.rglob("*.*")}


def test_the_same_request_finds_it_finished_and_rewrites_nothing(
    run, eurosat_root, clip_file, tmp_path, capsys
):
    before = content_of(run)
    same_clip = shutil.copy(clip_file, tmp_path / "renamed.pt")
    assert train.main(request(eurosat_root, run, str(same_clip), "TRAIN.PRINT_FREQ", "7")) == 0
    accuracy = json.loads((run / "results.json").read_text())["accuracy"]
    assert f"already finished: accuracy {accuracy:.2f}%" in capsys.readouterr().out
    assert content_of(run) == before


OTHERS = [
    (["SEED", "2"], "SEED 1, but SEED is now 2"),
    (["OPTIM.LR", "0.1"], "OPTIM.LR 0.001, but OPTIM.LR is now 0.1"),
    (["OPTIM.MAX_EPOCH", "1"], "OPTIM.MAX_EPOCH 2, but OPTIM.MAX_EPOCH is now 1"),
    (["OPTIM.MAX_EPOCH", "3"], "OPTIM.MAX_EPOCH 2, but OPTIM.MAX_EPOCH is now 3"),
]


@pytest.mark.parametrize("is_evaluated", [True, False])
@pytest.mark.parametrize(("options", "words"), OTHERS)
def test_another_request_is_refused_with_the_difference(
    options, words, is_evaluated, run, eurosat_root, clip_file, capsys
):
    if not is_evaluated:
        (run / "results.json").unlink()
    before = content_of(run)
    assert train.main(request(eurosat_root, run, clip_file, *options)) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Use another --output-dir" in error
    after = content_of(run)
    assert {path: after[path] for path in before} == before


def test_other_pictures_and_another_clip_are_refused(
    run, eurosat_root, clip_state, clip_file, tmp_path, capsys
):
    write_eurosat(tmp_path / "data", per_part={"train": 5, "val": 2, "test": 3})
    assert train.main(request(tmp_path / "data", run, clip_file)) == 2
    assert "other training pictures: the hash of the draw was" in capsys.readouterr().err
    other = other_clip(clip_state, tmp_path)
    assert train.main(request(eurosat_root, run, other)) == 2
    assert "the CLIP tiny.pt (fingerprint" in capsys.readouterr().err


def other_clip(clip_state, folder):
    torch.save(clip_state | {"visual.proj": clip_state["visual.proj"].flip(0)}, folder / "b.pt")
    return str(folder / "b.pt")


def test_a_checkpoint_is_not_read_with_another_clip(
    finished, eurosat_root, clip_state, tmp_path, capsys
):
    other, model = other_clip(clip_state, tmp_path), ["--eval-only", "--model-dir", str(finished)]
    assert train.main([*model, *request(eurosat_root, tmp_path / "eval", other)]) == 2
    words = "was made with the CLIP tiny.pt (fingerprint"
    assert words in (error := capsys.readouterr().err)
    assert "now b.pt (fingerprint" in error
    picture = next(eurosat_root.rglob("*.jpg"))
    assert predict.main([str(finished), str(picture), "--backbone", other]) == 2
    assert words in capsys.readouterr().err


def spoil(path):
    """Change one number, and write a file that is whole in itself."""
    state = load_checkpoint(str(path))
    next(iter(state["state_dict"].values())).view(-1)[0] += 1
    torch.save(state, path)


def test_damaged_checkpoints_are_passed_over_and_refused_by_name(
    run, eurosat_root, clip_file, tmp_path, capsys
):
    last = run / MODEL / "model.pth.tar-2"
    spoil(last)
    model = ["--eval-only", "--model-dir", str(last)]
    assert train.main([*model, *request(eurosat_root, tmp_path / "eval", clip_file)]) == 2
    assert "model.pth.tar-2' is damaged" in capsys.readouterr().err
    (run / "results.json").unlink()
    shutil.copy(last, run / "resume.pt")
    assert train.main(request(eurosat_root, run, clip_file)) == 0
    text = capsys.readouterr().out
    assert "resume.pt' is damaged" in text
    assert "model.pth.tar-2' is damaged" in text
    assert "Previous epoch: 1" in text


def test_a_changed_result_is_worked_out_again(run, eurosat_root, clip_file, capsys):
    want = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps(want | {"accuracy": 99.0}))
    assert train.main(request(eurosat_root, run, clip_file)) == 0
    assert "is damaged" in capsys.readouterr().out
    assert json.loads((run / "results.json").read_text())["accuracy"] == want["accuracy"]


def without_identity(run):
    """The folder as earlier versions left it."""
    for path in (run / MODEL).glob("model.pth.tar-*"):
        torch.save({k: v for k, v in load_checkpoint(str(path)).items() if k != "identity"}, path)
    values = json.loads((run / "results.json").read_text())
    values.pop("identity")
    (run / "results.json").write_text(json.dumps(values))


def test_a_folder_of_an_earlier_version_is_evaluated_and_not_gone_on_with(
    run, eurosat_root, clip_file, tmp_path, capsys
):
    without_identity(run)
    model = ["--eval-only", "--model-dir", str(run)]
    assert train.main([*model, *request(eurosat_root, tmp_path / "eval", clip_file)]) == 0
    for name in ("results.json", "model.pth.tar-2"):
        assert train.main(request(eurosat_root, run, clip_file)) == 2
        assert f"{name} was made by an earlier version" in capsys.readouterr().err
        (run / "results.json").unlink(missing_ok=True)


def test_an_evaluation_never_writes_into_a_training_s_folder(
    finished, eurosat_root, clip_file, tmp_path, capsys
):
    before = content_of(finished)
    model = ["--eval-only", "--model-dir", str(finished)]
    new = ["DATASET.SUBSAMPLE_CLASSES", "new"]
    assert train.main([*model, *request(eurosat_root, finished, clip_file, *new)]) == 2
    assert "give another --output-dir" in capsys.readouterr().err
    assert content_of(finished) == before
    out = tmp_path / "eval"
    assert train.main([*model, *request(eurosat_root, out, clip_file, *new)]) == 0
    identity = json.loads((out / "results.json").read_text())["identity"]
    assert identity["classnames"] == EUROSAT_CLASSES
    assert train.main(request(eurosat_root, out, clip_file, *new)) == 2
    assert "results.json is of an evaluation" in capsys.readouterr().err


def test_trained_classes_come_from_the_checkpoint(run, eurosat_root, capsys):
    values = json.loads((run / "results.json").read_text())
    (run / "results.json").write_text(json.dumps(values | {"classnames": ["cat"]}))
    assert predict.main([str(run), str(next(eurosat_root.rglob("*.jpg")))]) == 0
    assert "10 classes, read from the fusion" in capsys.readouterr().out


def test_nothing_learned_is_not_evaluated(eurosat_root, clip_file, tmp_path, capsys):
    arguments = request(eurosat_root, tmp_path, clip_file)
    assert train.main(["--eval-only", *arguments]) == 2
    assert "--model-dir RUN" in capsys.readouterr().err
    assert train.main([*arguments, "OPTIM.MAX_EPOCH", "0"]) == 2
    assert "OPTIM.MAX_EPOCH must be 1 or more; got 0" in capsys.readouterr().err
    assert not (tmp_path / "results.json").exists()


def test_the_file_says_which_trainer_and_values_it_is_of(
    eurosat_root, clip_file, tmp_path, monkeypatch, capsys
):
    from dassl.engine import TRAINER_REGISTRY
    from trainer import config
    from trainer.trainers import MMRL

    monkeypatch.setattr(TRAINER_REGISTRY, "_objects", dict(TRAINER_REGISTRY._objects))
    monkeypatch.setattr(config, "_METHODS", dict(config._METHODS))
    TRAINER_REGISTRY.register(type("Mine", (MMRL,), {}))
    config.add_method("Mine", PREC="fp32")
    arguments = request(eurosat_root, tmp_path / "run", clip_file, "TRAINER.MMRL.ALPHA", "0.2")
    arguments[arguments.index("--trainer") + 1] = "Mine"
    assert train.main(arguments) == 0
    # neither the trainer nor its values are said again
    bare = train_arguments(eurosat_root, tmp_path / "eval", clip_file)[: -len(METHOD_OPTIONS)]
    position = bare.index("--trainer")
    del bare[position : position + 2]
    assert train.main(["--eval-only", "--model-dir", str(tmp_path / "run"), *bare]) == 0
    assert "TRAINER.MMRL.ALPHA is 0.2, as in" in capsys.readouterr().out
    one, two = (json.loads((tmp_path / f / "results.json").read_text()) for f in ("run", "eval"))
    assert (one["trainer"], one["accuracy"]) == (two["trainer"], two["accuracy"])
    picture = next(eurosat_root.rglob("*.jpg"))
    assert predict.main([str(tmp_path / "run"), str(picture)]) == 0


def published_file(run, folder):
    """The bare tensors of a run, as released files have them."""
    folder.mkdir(parents=True)
    state = load_checkpoint(str(run / MODEL / "model.pth.tar-1"))
    torch.save({key: state[key] for key in ("state_dict", "epoch")}, folder / "model.pth.tar-1")
    return str(folder / "model.pth.tar-1")


def test_published_files_take_the_published_values_of_their_data_set(
    eurosat_root, clip_file, tmp_path, capsys
):
    arguments = train_arguments(eurosat_root, tmp_path / "run", clip_file, "MMRLpp")
    assert train.main([*arguments, "OPTIM.MAX_EPOCH", "1"]) == 0
    capsys.readouterr()
    picture = str(next(eurosat_root.rglob("*.jpg")))
    words = [picture, "--classes", "river,forest", "--backbone", clip_file]
    file = published_file(tmp_path / "run", tmp_path / "eurosat" / "seed1")
    assert predict.main([file, *words]) == 0
    text = capsys.readouterr().out
    assert "TRAINER.MMRLpp.BETA is 0.2: the paper's value for EuroSAT" in text
    assert "The prompt is 'a centered satellite photo of {}.': of EuroSAT" in text
    file = published_file(tmp_path / "run", tmp_path / "unnamed")
    assert predict.main([file, *words]) == 2
    assert "--dataset EuroSAT" in capsys.readouterr().err
    assert predict.main([file, *words, "--dataset", "DescribableTextures"]) == 0
    assert "BETA is 0.9: the paper's value for DescribableTextures" in capsys.readouterr().out


def test_no_stored_file_carries_a_folder_of_this_machine(finished, eurosat_root, tmp_path):
    out = tmp_path / "run.safetensors"
    assert checkpoints.main(["export", str(finished), str(out)]) == 0
    with safe_open(out, framework="pt") as file:
        stored = file.metadata()
    folders = [str(eurosat_root), str(finished), str(finished.parents[1])]
    assert "tiny.pt" in stored["identity"]
    state = load_checkpoint(str(finished / MODEL / "model.pth.tar-2"))
    for text in (*stored.values(), str(state["identity"])):
        assert not any(folder in text for folder in folders)
    assert list(state)[:2] == ["state_dict", "epoch"]


@pytest.mark.parametrize(("dataset", "beta"), [("ImageNet", 0.75), ("EuroSAT", 0.3)])
def test_across_data_sets_the_paper_s_beta_is_the_target_s(dataset, beta):
    flags = {"DATASET.NAME": "ImageNet", "TASK": "CD", "TRAINER.MMRLpp.BETA": 0.75}
    trained = plain_settings(flatten(build_config("MMRLpp", flags=flags)[0]))
    checkpoint = seal(CONTENT, Identity("MMRLpp", trained))
    cfg, origins = build_config("MMRLpp", flags={"DATASET.NAME": dataset, "TASK": "CD"})
    adapt_config(cfg, origins, checkpoint, "x.pt")
    assert beta == cfg.TRAINER.MMRLpp.BETA


def test_runs_of_two_models_are_not_evaluated_in_one_pass(
    finished, eurosat_root, clip_file, tmp_path, capsys
):
    alpha = ["TRAINER.MMRL.ALPHA", "0.2"]
    assert train.main(request(eurosat_root, tmp_path / "b", clip_file, *alpha)) == 0
    model = ["--eval-only", "--model-dir", str(finished), str(tmp_path / "b")]
    assert train.main([*model, *request(eurosat_root, tmp_path / "many", clip_file)]) == 2
    assert "TRAINER.MMRL.ALPHA 0.2" in capsys.readouterr().err


def test_a_damaged_best_model_is_named_before_training(eurosat_root, clip_file, tmp_path, capsys):
    best = ["TEST.FINAL_MODEL", "best_val", "OPTIM.MAX_EPOCH", "1"]
    arguments = request(eurosat_root, tmp_path, clip_file, *best)
    assert train.main(arguments) == 0
    (tmp_path / "results.json").unlink()
    spoil(tmp_path / MODEL / "model-best.pth.tar")
    assert train.main(arguments) == 2
    assert "model-best.pth.tar' is damaged" in capsys.readouterr().err
