"""Files that would run code, given to every command that reads weights or state: none runs."""

import os
import warnings

import pytest
import torch
from PIL import Image
from torch import nn

import predict
import train
from conftest import train_arguments
from trainer.checkpoints import __main__ as checkpoint
from trainer.checkpoints.find import MODEL_NAME

UNTOUCHED = b"sixteen bytes..."


class Writing(nn.Module):
    """Overwrites a file as soon as TorchScript loads it."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path
        self.total = 0.0

    @torch.jit.export
    def __getstate__(self):
        return (self.path, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.path = state[0]
        self.training = state[1]
        self.total = float(torch.from_file(self.path, True, 4).fill_(7.0).sum())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Calling:
    """Overwrites a file as soon as Python's unpickler loads it."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"echo run > {self.path}",)


def write_torchscript(path, mark):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            module = torch.jit.script(Writing(str(mark)))
            torch.jit.save(module, str(path))
        except (RuntimeError, AttributeError) as error:
            pytest.skip(f"this torch makes no TorchScript: {error}")
        torch.jit.load(str(path))
    assert mark.read_bytes() != UNTOUCHED  # so it does run where TorchScript reads it


def write_pickle(path, mark):
    torch.save({"state_dict": {}, "settings": Calling(mark)}, path)


@pytest.fixture(params=[write_torchscript, write_pickle])
def hostile(request, tmp_path):
    """A path; what would run there overwrites another file."""
    path, mark = tmp_path / "hostile.pt", tmp_path / "mark"
    mark.write_bytes(UNTOUCHED)
    request.param(path, mark)
    mark.write_bytes(UNTOUCHED)
    yield path
    assert mark.read_bytes() == UNTOUCHED


def refused(code, capsys):
    error = capsys.readouterr().err.strip()
    assert code == 2
    assert len(error.splitlines()) == 1
    assert error.startswith("error: ")
    return error


def test_model_dir(hostile, eurosat_root, clip_file, tmp_path, capsys):
    arguments = train_arguments(eurosat_root, tmp_path / "out", clip_file)
    code = train.main(["--eval-only", "--model-dir", str(hostile), *arguments])
    assert str(hostile) in refused(code, capsys)


@pytest.mark.parametrize("name", ["resume.pt", f"{MODEL_NAME}/model.pth.tar-1"])
def test_a_folder_to_go_on_in(name, hostile, eurosat_root, clip_file, tmp_path, capsys):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    hostile.rename(path)
    code = train.main(train_arguments(eurosat_root, tmp_path / "out", clip_file))
    assert str(path) in refused(code, capsys)


def test_backbone(hostile, eurosat_root, tmp_path, capsys):
    code = train.main(train_arguments(eurosat_root, tmp_path / "out", str(hostile)))
    assert str(hostile) in refused(code, capsys)


@pytest.mark.parametrize("command", ["describe", "export"])
def test_describe_and_export(command, hostile, tmp_path, capsys):
    out = [str(tmp_path / "out.safetensors")] if command == "export" else []
    code = checkpoint.main([command, str(hostile), *out])
    assert str(hostile) in refused(code, capsys)
    assert not (tmp_path / "out.safetensors").exists()


def test_predict(hostile, tmp_path, capsys):
    Image.new("RGB", (40, 36)).save(tmp_path / "picture.png")
    code = predict.main([str(hostile), str(tmp_path / "picture.png"), "--classes", "a,b"])
    assert str(hostile) in refused(code, capsys)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"epoch": 1}, "no 'state_dict'"),
        ({"state_dict": 5}, "is not a dict of tensors"),
        ({"state_dict": {"w": "text"}}, "is not a dict of tensors"),
        ({"state_dict": {1: torch.ones(1)}}, "is not a dict of tensors"),
        ([torch.ones(1)], "holds no dict"),
        (torch.ones(1), "holds no dict"),
    ],
)
def test_a_file_that_holds_something_else(content, message, tmp_path, capsys):
    torch.save(content, tmp_path / "x.pt")
    assert message in refused(checkpoint.main(["describe", str(tmp_path / "x.pt")]), capsys)


def test_a_resume_file_that_is_another_file(eurosat_root, clip_file, tmp_path, capsys):
    torch.save({"state_dict": {}}, tmp_path / "resume.pt")
    code = train.main(train_arguments(eurosat_root, tmp_path, clip_file))
    assert "resume.pt is not a resume file: it lacks 'identity'" in refused(code, capsys)


def test_an_exported_file_with_other_metadata(tmp_path, capsys):
    from safetensors.torch import save_file

    for metadata in ("[]", "{"):
        save_file({"w": torch.ones(1)}, tmp_path / "x.safetensors", metadata={"mmrl": metadata})
        code = checkpoint.main(["describe", str(tmp_path / "x.safetensors")])
        assert "Cannot read" in refused(code, capsys)
