import sys

import pytest


@pytest.fixture(autouse=True)
def _without_refinement(monkeypatch):
    """Spare the half minute of the default refinement; tests of it ask for it by flag."""
    monkeypatch.setenv("TOMOSEG_SEGMENT_SCOPE", "none")


@pytest.fixture
def tomoseg(monkeypatch, capsys):
    """Run the command line in this process; return exit code, stdout and stderr."""
    from tomoseg_cli.main import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tomoseg", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return ended.value.code, captured.out, captured.err

    return run
