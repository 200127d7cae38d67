"""Tools that make data set files: `python -m dataset_tools <command>`."""
