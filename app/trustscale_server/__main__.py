"""`python -m trustscale_server` is `trustscale`."""

from trustscale_server.cli.main import main

main()
