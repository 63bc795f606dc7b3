"""What runs in the process that trains: checkpoints, runs and how a training goes on, one line each."""
