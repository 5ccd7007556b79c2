"""Names, imports and defaults: items 1, 2 and 18 of the API's checklist."""

import hashlib
import importlib
import subprocess
import sys

import pytest

from conftest import REPOSITORY
from dassl.config import clean_cfg, get_cfg_default
from dassl.utils import Registry, check_availability

NAMES = {
    "dassl.config": "cfg_default get_cfg_default clean_cfg",
    "dassl.config.defaults": "_C",
    "dassl.engine": "TRAINER_REGISTRY build_trainer TrainerBase SimpleTrainer TrainerX TrainerXU "
    "SimpleNet",
    "dassl.engine.trainer": "TrainerBase SimpleTrainer TrainerX TrainerXU SimpleNet SummaryWriter "
    "save_checkpoint load_checkpoint resume_from_checkpoint load_pretrained_weights "
    "mkdir_if_missing tolist_if_not count_num_param AverageMeter MetricMeter DataManager "
    "build_optimizer build_lr_scheduler build_evaluator build_head build_backbone tqdm torch nn F "
    "np os osp time datetime OrderedDict",
    "dassl.engine.build": "TRAINER_REGISTRY build_trainer",
    "dassl.data": "DataManager DatasetWrapper",
    "dassl.data.data_manager": "DataManager DatasetWrapper build_data_loader build_dataset "
    "build_sampler build_transform INTERPOLATION_MODES read_image TorchDataset",
    "dassl.data.samplers": "build_sampler RandomDomainSampler SeqDomainSampler RandomClassSampler",
    "dassl.data.transforms": "build_transform INTERPOLATION_MODES",
    "dassl.data.transforms.transforms": "build_transform INTERPOLATION_MODES "
    "_build_transform_train _build_transform_test",
    "dassl.data.datasets": "DATASET_REGISTRY build_dataset Datum DatasetBase",
    "dassl.data.datasets.build": "DATASET_REGISTRY build_dataset",
    "dassl.data.datasets.base_dataset": "Datum DatasetBase",
    "dassl.evaluation": "EVALUATOR_REGISTRY build_evaluator EvaluatorBase Classification",
    "dassl.evaluation.evaluator": "EvaluatorBase Classification",
    "dassl.metrics": "compute_accuracy compute_distance_matrix euclidean_squared_distance "
    "cosine_distance",
    "dassl.optim": "build_optimizer build_lr_scheduler",
    "dassl.optim.optimizer": "AVAI_OPTIMS",
    "dassl.optim.lr_scheduler": "AVAI_SCHEDS _BaseWarmupScheduler ConstantWarmupScheduler "
    "LinearWarmupScheduler",
    "dassl.optim.radam": "RAdam PlainRAdam AdamW",
    "dassl.utils": "mkdir_if_missing check_isfile read_json write_json set_random_seed "
    "download_url read_image collect_env_info listdir_nohidden get_most_similar_str_to_a_from_b "
    "check_availability tolist_if_not Logger setup_logger AverageMeter MetricMeter Registry "
    "save_checkpoint load_checkpoint resume_from_checkpoint open_all_layers "
    "open_specified_layers count_num_param load_pretrained_weights init_network_weights",
    "dassl.utils.torchtools": "adjust_learning_rate set_bn_to_eval",
    "dassl.modeling": "BACKBONE_REGISTRY build_backbone Backbone HEAD_REGISTRY build_head "
    "NETWORK_REGISTRY build_network",
    "dassl.modeling.ops": "ReverseGrad sharpen_prob reverse_index shuffle_index create_onehot "
    "sigmoid_rampup linear_rampup ema_model_update",
    "dassl.modeling.ops.reverse_grad": "ReverseGrad",
    "dassl.modeling.ops.utils": "sharpen_prob reverse_index shuffle_index create_onehot "
    "sigmoid_rampup linear_rampup ema_model_update",
}


@pytest.mark.parametrize("module", NAMES)
def test_every_name_is_where_upstream_has_it(module):
    found = importlib.import_module(module)
    assert [name for name in NAMES[module].split() if not hasattr(found, name)] == []


def test_importing_needs_nothing_optional_and_changes_nothing():
    code = f"""
import sys, logging
for name in ("wilds", "gdown", "tensorboard", "six", "pandas", "sklearn", "tabulate"):
    sys.modules[name] = None
for name in {list(NAMES)}:
    __import__(name)
import torch
from dassl.engine.trainer import SummaryWriter
try:
    SummaryWriter("runs")
except ImportError as error:
    assert "pip install tensorboard" in str(error)
else:
    raise AssertionError("made a writer without tensorboard")
assert logging.root.manager.disable == 0
assert not torch.cuda.is_initialized()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_defaults_print_as_upstream_prints_them():
    text = str(get_cfg_default())
    want = "bc2e760572f370f32f9daf701854fafbc8ac844dd18aa6b1d3977db314be2b18"
    assert hashlib.sha256(text.encode()).hexdigest() == want


def test_two_configs_are_independent_and_extensible():
    one, two = get_cfg_default(), get_cfg_default()
    one.OPTIM.LR = 1.0
    one.TASK = "B2N"
    assert two.OPTIM.LR == 0.0003
    assert "TASK" not in two


def test_the_type_of_a_default_binds():
    with pytest.raises(ValueError, match="Type mismatch"):
        get_cfg_default().merge_from_list(["OPTIM.LR", "1"])
    with pytest.raises(AssertionError, match="Non-existent key"):
        get_cfg_default().merge_from_list(["OPTIM.LRR", "1"])


def test_clean_cfg_keeps_the_trainer_s_own_node():
    cfg = get_cfg_default()
    cfg.TRAINER.MMRLpp = get_cfg_default().TRAINER.MME
    clean_cfg(cfg, "MMRLpp")
    assert sorted(cfg.TRAINER) == ["MMRLpp", "NAME"]


def test_registry_names_what_was_asked_and_what_exists():
    registry = Registry("THING")

    @registry.register()
    class Hammer:
        pass

    assert registry.get("Hammer") is Hammer
    with pytest.raises(KeyError, match=r"Hamer.*THING.*Hammer"):
        registry.get("Hamer")
    with pytest.raises(KeyError, match=r"Hammer.*THING"):
        registry.register(Hammer)
    registry.register(Hammer, force=True)
    with pytest.raises(ValueError, match=r"\['Hammer'\].*\[Hamer\].*\[Hammer\]"):
        check_availability("Hamer", registry.registered_names())
