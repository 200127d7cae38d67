"""One paper each: models compose layers and are the only place that reads hyper-parameters."""
