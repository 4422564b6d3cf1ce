"""`python -m app` is `trustscale`."""

from app.cli.main import main

main()
