"""Work shared out through a storage of Optuna's: addresses, and who is at what."""
