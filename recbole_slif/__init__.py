"""SLIF-MR and its baselines as a RecBole extension: knowledge graphs meet multimodal features.

Importing the package first makes RecBole 1.2.1 work on current numpy, pandas, scipy and torch
(`recbole_slif.compat`), so it must come before any import of `recbole`.
"""

from recbole_slif import compat

compat.apply()

__version__ = "0.1.0"
__all__ = ["__version__"]
