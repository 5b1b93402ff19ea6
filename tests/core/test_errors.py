"""How a command ends when something goes wrong: one message, no traceback."""

from __future__ import annotations

import errno

import pytest

from core.errors import EXIT_ERROR, run_command


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_message_that_names_the_file(capsys: pytest.CaptureFixture[str], number: int) -> None:
    def write() -> int:
        raise OSError(number, "full", "results/x")

    with pytest.raises(SystemExit) as ended:
        run_command("demo", write)
    assert ended.value.code == EXIT_ERROR
    assert capsys.readouterr().err.startswith("demo: the disk is full: results/x\n  Free some space")


def test_another_operating_system_error_is_not_hidden() -> None:
    def write() -> int:
        raise PermissionError(errno.EACCES, "no")

    with pytest.raises(PermissionError):
        run_command("demo", write)
