"""`python -m manymatch`: the command line."""

from .cli import main

main()
