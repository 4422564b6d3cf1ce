"""`python -m workers`: the worker's commands alone."""

from trustscale_worker.cli import main

if __name__ == "__main__":
    main()
