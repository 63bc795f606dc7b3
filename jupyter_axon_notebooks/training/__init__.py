"""The code that runs in the process that trains: the notebook API, runs and state formats."""
