"""`python -m kedge.cli`: the command line without the installed script."""

from kedge.cli import main

main(prog_name="kedge")
