"""One equation each: small modules and functions of tensors that know no config and no data set."""
