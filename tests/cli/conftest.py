import sys

import pytest


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
