"""``python -m localgen`` is the ``localgen`` command."""

from localgen.cli import main

if __name__ == "__main__":
    main()
