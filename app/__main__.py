"""`python -m app` is `trustscale`."""

from app.cli import main

main()
