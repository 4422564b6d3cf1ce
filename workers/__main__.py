"""`python -m workers`: the worker's commands alone."""

from workers.cli import main

if __name__ == "__main__":
    main()
