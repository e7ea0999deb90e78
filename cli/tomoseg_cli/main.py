"""The entry point: the commands and the one place where errors become exit codes."""

import os
import sys

import click

from tomoseg import __version__
from tomoseg.errors import TomosegError
from tomoseg_cli.benchmark import benchmark
from tomoseg_cli.cluster import cluster_certs
from tomoseg_cli.console import INTERRUPTED, report_error
from tomoseg_cli.convert import convert
from tomoseg_cli.doctor import doctor
from tomoseg_cli.evaluate import evaluate
from tomoseg_cli.finalize import finalize
from tomoseg_cli.pick import pick
from tomoseg_cli.pretrain import pretrain
from tomoseg_cli.report import report
from tomoseg_cli.segment import segment
from tomoseg_cli.simulate import simulate
from tomoseg_cli.status import status
from tomoseg_cli.view import view


@click.group(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "TOMOSEG",
        "max_content_width": 100,
    }
)
@click.version_option(__version__, prog_name="tomoseg")
def cli() -> None:
    """Find everything salient in cryo-electron tomograms, without annotations.

    \b
    tomoseg segment big.mrc --out mask.zarr
    tomoseg status mask.zarr
    tomoseg pick mask.zarr --out particles.star --diameter 250
    tomoseg convert mask.zarr mask.mrc

    Every option can also be set by the environment (TOMOSEG_SEGMENT_SCOPE=none) or by a
    TOML file (--config). Exit codes: 0 done, 1 failed, 2 wrong usage, 3 stopped or partly
    done and resumable, 130 interrupted.
    """


for _command in (
    *(segment, status, report, view, finalize, cluster_certs, pick, convert),
    *(evaluate, benchmark, simulate, pretrain, doctor),
):
    cli.add_command(_command)


def main() -> None:
    """Run the command line; no traceback reaches a user."""
    as_json = "--json" in sys.argv[1:]
    os.umask(os.umask(0o077) | 0o002)  # no file that this process makes can be written by all
    try:
        code = cli.main(standalone_mode=False)  # a command returns its exit code
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted; what is done is kept.", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except TomosegError as error:
        report_error(error, as_json=as_json)
        sys.exit(error.exit_code)
    except Exception as error:
        report_error(error, as_json=as_json)
        sys.exit(1)
    sys.exit(code)


if __name__ == "__main__":
    main()
