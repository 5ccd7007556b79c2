"""Every number on a command line or in a config, out of its range: one sentence, exit code 2."""

import pytest

import predict
import train
from benchmarks import compare
from benchmarks import run as benchmark
from demo import pretrain
from demo import run as demo
from scripts import parse_test_res, report, sweep
from trainer.checkpoints.__main__ import main as checkpoints
from trainer.config import build_config, flatten

HUGE = str(10**30)
WHOLE = ["-1", "nan", "1.5", "x", "", "1_000", "0x10", HUGE, "9" * 5000]
LISTS = ["-1", "nan", "1,x", HUGE, "1;2"]
MINUTES = ["0", "-1", "nan", "inf", "1e300", "x"]
EPOCHS = ["0", "-3", "nan", "1.5", "x"]
# main, words before the option, the option, what it refuses
OPTIONS = [
    *((predict.main, ["x", "y"], option, ["0", *WHOLE]) for option in ("--top", "--batch-size")),
    (predict.main, ["run", "a.png"], "--device", ["x", "cuda:99", "-1"]),
    (sweep.main, ["few_shot", "--root", "x"], "--seeds", LISTS),
    (sweep.main, ["few_shot", "--root", "x"], "--shots", ["0", *LISTS]),
    (sweep.main, ["few_shot", "--root", "x"], "--shard", ["5/4", "0/0", "-1/2", "x", f"0/{HUGE}"]),
    (sweep.main, ["few_shot", "--root", "x"], "--per-gpu", ["0", *WHOLE]),
    (sweep.main, ["few_shot", "--root", "x"], "--retries", WHOLE),
    (sweep.main, ["few_shot", "--root", "x"], "--timeout", MINUTES),
    (sweep.main, ["few_shot", "--root", "x"], "--stalled", MINUTES),
    (report.main, ["x"], "--seeds", LISTS),
    (parse_test_res.main, ["x"], "--seeds", LISTS),
    (demo.main, [], "--seeds", ["", *LISTS]),
    *((pretrain.main, [], option, ["0", *WHOLE]) for option in ("--steps", "--batch-size")),
    (pretrain.main, [], "--seed", WHOLE),
    (benchmark.main, [], "--rows", ["0x4", "4x0", "5", "x", f"{HUGE}x4", "5x4,"]),
    (benchmark.main, [], "--methods", ["", "mmrl", "MMRL,x"]),
    (benchmark.main, [], "--modes", ["", "test"]),
    (benchmark.main, [], "--repeat", ["0", *WHOLE]),
    (compare.main, ["a", "b"], "--tolerance", ["-1", "nan", "inf", "x", ""]),
    *((train.main, [], o, ["-2", "nan", "1.5", "x", HUGE]) for o in ("--seed", "--train-epoch")),
    (train.main, ["--eval-only", "--model-dir", "x"], "--load-epoch", EPOCHS),
    (checkpoints, ["describe", "x"], "--load-epoch", EPOCHS),
]  # fmt: skip
MAY_BE_NAMED_BY_KEY = {"--seed": "SEED", "--train-epoch": "OPTIM.MAX_EPOCH"}


@pytest.mark.parametrize(
    ("main", "words", "option", "values"), OPTIONS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_an_option_out_of_range_is_answered_in_one_sentence(main, words, option, values, capsys):
    for value in values:
        try:
            code = main([*words, f"{option}={value}"])
        except SystemExit as end:
            code = end.code
        error = capsys.readouterr().err
        assert code == 2, (option, value)
        assert len(error.splitlines()) == 1, (option, value, error)
        assert option in error or MAY_BE_NAMED_BY_KEY[option] in error, (option, value, error)
        assert len(error) < 600


# Read by no trainer of this project; VERSION by nobody. Any finite number of the type will do.
OF_OTHER_TRAINERS = {
    *("VERSION", "DATASET.NUM_LABELED", "DATASET.STL10_FOLD", "DATASET.CIFAR_C_LEVEL"),
    *("MODEL.HEAD.DROPOUT", "OPTIM.BASE_LR_MULT", "INPUT.GN_MEAN"),
}
# Of which both are a choice, below or above what is usual.
TAKE_MINUS_ONE = {"SEED", "DATASET.NUM_SHOTS", "OPTIM.WARMUP_EPOCH", *OF_OTHER_TRAINERS}
TAKE_ZERO = {
    *("SEED", "INPUT.CROP_PADDING", "INPUT.GN_STD", "INPUT.RANDAUGMENT_M", "INPUT.RGS_P"),
    *("INPUT.GB_P", "DATASET.VAL_PERCENT", "DATALOADER.NUM_WORKERS", "DATALOADER.CACHE_MB"),
    *("DATALOADER.TRAIN_X.N_DOMAIN", "DATALOADER.TRAIN_U.N_DOMAIN", "OPTIM.WEIGHT_DECAY"),
    *("OPTIM.MOMENTUM", "OPTIM.SGD_DAMPNING", "OPTIM.RMSPROP_ALPHA", "OPTIM.ADAM_BETA1"),
    *("OPTIM.ADAM_BETA2", "OPTIM.WARMUP_EPOCH", "OPTIM.WARMUP_CONS_LR", "OPTIM.WARMUP_MIN_LR"),
    *("TRAIN.CHECKPOINT_FREQ", "TRAINER.CLASS_CHUNK", *OF_OTHER_TRAINERS),
    *(f"INPUT.COLORJITTER_{which}" for which in "BCSH"),
    *(f"TRAINER.{n}.{key}" for n in ("MMRL", "MMRLpp") for key in ("ALPHA", "BETA", "REG_WEIGHT")),
}  # fmt: skip
DEFAULTS = flatten(build_config()[0])
NODES = ("MMRL", "MMRLpp", "NAME", "CLASS_CHUNK")
OURS = [key for key in DEFAULTS if key.split(".")[0] != "TRAINER" or key.split(".")[1] in NODES]
NUMBERS = [key for key in OURS if type(DEFAULTS[key]) in (int, float)]


def refusal(key, value):
    """The sentence that refuses a value, or nothing."""
    try:
        build_config("MMRL", opts=[key, value])
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_of_the_config_out_of_range_is_refused_by_its_key(key):
    wrong = ["nan", "1e999", "x", "True"]
    wrong += [HUGE, "0.5"] if type(DEFAULTS[key]) is int else ["1" + "0" * 400]
    wrong += [] if key in TAKE_MINUS_ONE else ["-1"]
    wrong += [] if key in TAKE_ZERO else ["0"]
    for value in wrong:
        error = refusal(key, value)
        assert key in error, (value[:20], error)
        assert "\n" not in error
        assert len(error) < 600
    for value in ["-1"] * (key in TAKE_MINUS_ONE) + ["0"] * (key in TAKE_ZERO):
        assert not refusal(key, value)


@pytest.mark.parametrize("key", ["SEED", "OPTIM.LR", "INPUT.SIZE"])
def test_words_that_python_cannot_read_are_refused_by_their_key(key):
    for value in ("9" * 5000, "(" * 5000, "1\0", "{[]: 1}", "None", "", "\ud800"):
        error = refusal(key, value)
        assert key in error
        assert len(error) < 600


@pytest.mark.parametrize("key", [key for key in OURS if type(DEFAULTS[key]) in (tuple, list)])
def test_a_list_of_the_config_takes_plain_values_alone(key):
    for value in ("1", "nan", "x", "[[1]]", "[None]", "{}", f"[{HUGE}, 1.5, 'a', 1]", "[1,"):
        error = refusal(key, value)
        assert key in error or (key in WORDS and value.startswith(f"[{HUGE}")), (value, error)
        assert "\n" not in error


# Lists of words, of which a trainer or a data set says which it knows.
WORDS = {
    *("INPUT.TRANSFORMS", "DATASET.SOURCE_DOMAINS", "DATASET.TARGET_DOMAINS"),
    *("MODEL.HEAD.HIDDEN_LAYERS", "OPTIM.NEW_LAYERS"),
}


def test_values_that_do_not_fit_together_are_named():
    for opts, words in (
        (
            ["OPTIM.NAME", "sgd", "OPTIM.SGD_NESTEROV", "True", "OPTIM.MOMENTUM", "0"],
            "SGD_NESTEROV",
        ),
        (
            ["INPUT.TRANSFORMS", "['gaussian_blur']", "INPUT.SIZE", "(8,8)"],
            r"INPUT\.GB_K 21 is too",
        ),
    ):
        with pytest.raises(ValueError, match=words):
            build_config("MMRL", opts=opts)
