"""Files become ids here: atomic files, features, splits and samplers; nothing knows a model."""
