"""The program of the worker process."""

from localgen.worker.child import main

main()
