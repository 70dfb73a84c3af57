"""The benchmarks that there are: `make bench`, or `.venv/bin/python -m benchmarks --help`."""

from benchmarks.lines_to_json import main

main()
