from __future__ import annotations

import errno
import json

import click
import pytest
from click.testing import CliRunner

from medslm import errors
from medslm.errors import GateFailed, MedslmError, exit_code_of, stage, work_dir

# reliability contract: the numbers are an interface, scripts depend on them
CODES = {
    "ParamsError": 2,
    "DataError": 10,
    "IntegrityError": 11,
    "LeakageError": 12,
    "CredentialsError": 20,
    "MoneyError": 21,
    "TeacherDown": 22,
    "TooManyFailures": 23,
    "GateFailed": 30,
    "StorageError": 40,
    "LockHeld": 41,
    "CheckpointError": 42,
    "Diverged": 43,
    "WorkerLost": 44,
    "TooLarge": 45,
    "TrackingDown": 50,
    "NotPromotable": 51,
    "OutOfMemory": 70,
    "Interrupted": 130,
}


def test_every_error_has_its_documented_code():
    found = {cls.__name__: cls.exit_code for cls in MedslmError.__subclasses__()}

    assert found == CODES
    for name, code in CODES.items():
        assert any(
            name in line and str(code) in line for line in (errors.__doc__ or "").split("\n")
        ), name


def test_an_error_becomes_one_line_a_status_file_and_its_exit_code():
    @click.command()
    @stage
    def main() -> None:
        raise GateFailed("3 rows; fix them")

    result = CliRunner().invoke(main, [])

    assert result.exit_code == 30
    assert result.stderr == "error[30]: 3 rows; fix them\n"
    assert json.loads((work_dir() / "status.json").read_text())["exit_code"] == 30


def test_ctrl_c_has_its_code_and_no_traceback():
    @click.command()
    @stage
    def main() -> None:
        raise KeyboardInterrupt

    result = CliRunner().invoke(main, [])

    assert result.exit_code == 130
    assert result.stderr == "error[130]: interrupted; run again to go on\n"


def test_a_full_disk_has_its_code_and_a_bug_keeps_its_traceback():
    assert exit_code_of(OSError(errno.ENOSPC, "full")) == 40
    assert exit_code_of(OSError(errno.ENOENT, "missing")) is None

    @click.command()
    @stage
    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        CliRunner().invoke(main, [], catch_exceptions=False)
