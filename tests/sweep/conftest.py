"""A `python` that only records."""

import shutil

import pytest

from recording import RECORDER


@pytest.fixture
def recorder(tmp_path):
    """The environment in which $PYTHON records, and leaves what counts as a finished run."""
    path = tmp_path / "bin" / "python"
    path.parent.mkdir()
    shutil.copy(RECORDER, path)
    record = str(tmp_path / "record")
    return {"PYTHON": str(path), "RECORD": record, "RESULTS": '{"accuracy": 1}', "DATA": "/data"}
