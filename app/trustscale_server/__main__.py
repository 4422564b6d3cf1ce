"""`python -m app` is `trustscale`."""

from trustscale_server.cli.main import main

main()
