"""`python -m infra.cli`: the command `dramac` without its script."""

from infra.cli.main import main

main()
