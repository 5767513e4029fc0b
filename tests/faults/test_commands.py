"""What is asked of every command in these tests fails where it is not met."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import Commands, Conditions


@pytest.mark.parametrize(("written", "silent"), [("'.'", False), ("''", True)], ids=["talks", "silent"])
def test_a_command_that_is_silent_for_long_is_found(
    fault_environment: dict[str, str], tmp_path: Path, written: str, silent: bool
) -> None:
    program = f"import time\nfor _ in range(40):\n    time.sleep(0.05)\n    print({written}, end='', flush=True)"
    commands = Commands(fault_environment, longest_silence_s=1.9)
    try:
        if silent:
            with pytest.raises(AssertionError, match="s without a word"):
                commands.run(["-c", program], tmp_path, conditions=Conditions(python=True))
        else:
            ended = commands.run(["-c", program], tmp_path, conditions=Conditions(python=True))
            assert ended.silence < ended.seconds and ended.output == "." * 40
    finally:
        commands.close()
