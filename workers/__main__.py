"""`python -m workers`: the worker's commands without the rest of the program."""

from workers.cli import main

if __name__ == "__main__":
    main()
