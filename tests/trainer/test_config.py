"""The resolved config of every published run, origins, and what is refused."""

import csv

import pytest

from conftest import GOLDEN, REPOSITORY
from trainer.config import build_config

CONFIGS = REPOSITORY / "configs"


def resolved(row):
    options = ("TASK", row["task"], "DATASET.NUM_SHOTS", row["num_shots"])
    cfg, origins = build_config(
        trainer=row["trainer"],
        dataset_config_file=str(CONFIGS / "datasets" / f"{row['dataset']}.yaml"),
        config_file=str(CONFIGS / "trainers" / row["trainer"] / f"{row['config']}.yaml"),
        opts=[*options, "DATASET.SUBSAMPLE_CLASSES", row["subsample_classes"]],
    )
    return cfg, origins


def columns(cfg, trainer):
    t, o = cfg.TRAINER[trainer], cfg.OPTIM
    values = {
        "dataset_name": cfg.DATASET.NAME,
        "task": cfg.TASK,
        "subsample_classes": cfg.DATASET.SUBSAMPLE_CLASSES,
        "num_shots": cfg.DATASET.NUM_SHOTS,
        "train_batch": cfg.DATALOADER.TRAIN_X.BATCH_SIZE,
        "test_batch": cfg.DATALOADER.TEST.BATCH_SIZE,
        "optimizer": o.NAME,
        "lr": o.LR,
        "weight_decay": o.WEIGHT_DECAY,
        "max_epoch": o.MAX_EPOCH,
        "lr_scheduler": o.LR_SCHEDULER,
        "warmup_epoch": o.WARMUP_EPOCH,
        "warmup_cons_lr": o.WARMUP_CONS_LR,
        "alpha": t.ALPHA,
        "beta": t.get("BETA", ""),
        "reg_weight": t.REG_WEIGHT,
        "rep_layers": " ".join(map(str, t.REP_LAYERS)),
        "n_rep_tokens": t.N_REP_TOKENS,
        "rep_dim": t.REP_DIM,
        "proj_lora_dim": t.get("PROJ_LORA_DIM", ""),
        "res_lora_dim": t.get("RES_LORA_DIM", ""),
        "prec": t.PREC,
    }
    return {key: str(value) for key, value in values.items()}


def test_every_published_run_resolves_to_its_hyper_parameters():
    with open(GOLDEN / "experiments.csv") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        got = columns(resolved(row)[0], row["trainer"])
        assert got == {key: row[key] for key in got}, row["output_dir"]
    assert len(rows) == 184


def small(*opts, **kwargs):
    yaml = str(CONFIGS / "trainers/MMRL/vit_b16.yaml")
    eurosat = str(CONFIGS / "datasets/eurosat.yaml")
    return build_config("MMRL", eurosat, yaml, opts=opts, **kwargs)


def test_command_line_wins_over_the_papers_values_and_origins_say_so():
    cfg, origins = small()
    assert (cfg.TRAINER.MMRL.REG_WEIGHT, cfg.TRAINER.MMRL.REP_DIM) == (0.01, 2048)
    assert origins["TRAINER.MMRL.REP_DIM"] == "the paper's value for EuroSAT"
    assert origins["OPTIM.NAME"].endswith("vit_b16.yaml")
    cfg, origins = small("TRAINER.MMRL.REP_DIM", "64", flags={"SEED": 0})
    assert (cfg.TRAINER.MMRL.REP_DIM, cfg.SEED) == (64, 0)
    assert origins["TRAINER.MMRL.REP_DIM"] == origins["SEED"] == "the command line"
    assert "OPTIM.MOMENTUM" not in origins


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (["OPTIM.LRR", "1"], r"'OPTIM\.LRR'.*Did you mean 'OPTIM\.LR'"),
        (["TRAINER.MMRL.REG_WEIGTH", "1"], r"Did you mean 'TRAINER\.MMRL\.REG_WEIGHT'"),
        (["OPTIM.LR"], r"OPTIM\.LR' has no value"),
        (
            ["OPTIM.MAX_EPOCH", "many"],
            r"OPTIM\.MAX_EPOCH takes a int such as 10, got the str 'many'",
        ),
        (["USE_CUDA", "0"], r"USE_CUDA takes a bool"),
        (["TASK", "B2B"], r"TASK must be one of B2N, FS, CD; got 'B2B'"),
        (["TRAINER.MMRL.PREC", "fp64"], r"PREC must be one of .*'fp64'"),
        (["DATASET.SUBSAMPLE_CLASSES", "novel"], r"SUBSAMPLE_CLASSES.*'novel'"),
    ],
)
def test_wrong_options_are_answered_in_one_sentence(opts, message):
    with pytest.raises(ValueError, match=message):
        small(*opts)


OUT_OF_RANGE = """
DATALOADER.TRAIN_X.BATCH_SIZE 0|DATALOADER.TRAIN_X.BATCH_SIZE -3|DATALOADER.TEST.BATCH_SIZE 0
DATALOADER.NUM_WORKERS -1|DATALOADER.CACHE_MB -1|DATALOADER.K_TRANSFORMS 2|DATALOADER.K_TRANSFORMS 0
DATASET.NUM_SHOTS -5|DATASET.NUM_SHOTS 0|DATASET.TEMPLATE {}-{}|DATASET.TEMPLATE {0}
DATASET.TEMPLATE photo|INPUT.SIZE (0,32)|INPUT.SIZE (32,)|INPUT.SIZE (32.5,32)
INPUT.NO_TRANSFORM True|INPUT.PIXEL_STD [1,0,1]|INPUT.PIXEL_MEAN [0.5]|OPTIM.STAGED_LR True
OPTIM.LR 0|OPTIM.LR -0.1|OPTIM.LR 1e999|OPTIM.MAX_EPOCH 0|OPTIM.WARMUP_EPOCH -2
OPTIM.WARMUP_EPOCH 99|OPTIM.STEPSIZE (1.5,)|OPTIM.WEIGHT_DECAY -1|OPTIM.LR_SCHEDULER cosin
SEED -2|TRAIN.PRINT_FREQ 0|TRAIN.CHECKPOINT_FREQ -2|TRAINER.CLASS_CHUNK -1|TRAINER.MMRL.ALPHA 2
TRAINER.MMRL.N_REP_TOKENS 0|TRAINER.MMRL.REP_DIM 0|TRAINER.MMRL.REG_WEIGHT -1
TRAINER.MMRL.REP_LAYERS ["six"]|TRAINER.MMRLpp.BETA 1.5|TRAINER.MMRLpp.RES_LORA_DIM 0
"""


@pytest.mark.parametrize("option", OUT_OF_RANGE.replace("|", "\n").split("\n")[1:-1])
def test_a_value_out_of_range_is_refused_by_its_key(option):
    key, value = option.split(" ")
    subject = "template" if key == "DATASET.TEMPLATE" else key
    with pytest.raises(ValueError, match=subject) as refused:
        small(key, value)
    assert "\n" not in str(refused.value)


def test_what_follows_a_mistyped_option_is_not_taken_for_a_value():
    with pytest.raises(ValueError, match=r"'--modle-dir' is not an option"):
        small("--modle-dir", "out", "TRAINER.MMRL.REP_DIM", "64")
    with pytest.raises(ValueError, match=r"Expected a config key, got 'out/seed1'"):
        small("out/seed1", "TRAINER.MMRL.REP_DIM", "64")


def test_an_unknown_key_in_a_yaml_file_is_named_with_the_file(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("OPTIM:\n  LEARNING_RATE: 0.1\n")
    with pytest.raises(ValueError, match=r"OPTIM\.LEARNING_RATE'.*own\.yaml"):
        build_config("MMRL", "", str(path))
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml"):
        build_config("MMRL", "", "nowhere.yaml")


def test_an_integer_is_taken_where_a_float_is_expected():
    assert small("OPTIM.LR", "1")[0].OPTIM.LR == 1.0


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_yaml_loads(path):
    build_config("MMRL", "", str(path))


BAD_YAML = [
    ("OPTIM:\n  LR: 1\n  LR: 2\n", r"own\.yaml', line 2: .*the key 'LR' is there twice"),
    ("OPTIM.LR: 1\nOPTIM:\n  LR: 2\n", r"own\.yaml' has OPTIM\.LR twice"),
    ("OPTIM:\n  MAX_EPOCH: 010\n", r"line 2: .*010 is another number in yaml"),
    ("OPTIM:\n  MAX_EPOCH: 1:30\n", r"line 2: .*1:30 is another number in yaml"),
    ("OPTIM: &a\n  LR: *a\n", r"Unknown config key 'OPTIM\.LR\.LR"),
    ("DATASET:\n  NAME: no\n", r"DATASET\.NAME takes a str .*got the bool False"),
    ("OPTIM:\n  LR: !!int ''\n", r"own\.yaml' is not yaml"),
    ("INPUT:\n  TRANSFORMS: [[a]]\n", r"INPUT\.TRANSFORMS takes a tuple"),
]


@pytest.mark.parametrize(("text", "message"), BAD_YAML)
def test_yaml_that_says_something_else_than_it_seems_is_refused(text, message, tmp_path):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        build_config("MMRL", "", str(tmp_path / "own.yaml"))


def test_a_small_yaml_file_of_endless_aliases_is_refused_at_once(tmp_path):
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{i}: &a{i} {{x: *a{i - 1}, y: *a{i - 1}, z: *a{i - 1}}}" for i in range(1, 60)]
    (tmp_path / "own.yaml").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"own\.yaml' has more than 10000 values"):
        build_config("MMRL", "", str(tmp_path / "own.yaml"))
