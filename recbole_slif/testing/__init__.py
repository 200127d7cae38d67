"""The checklist every model of the package passes, ready for a researcher's own models.

from recbole_slif.testing import check_recommender
check_recommender(MyModel)
"""

from recbole_slif.testing.checklist import CHECKS, check_recommender
from recbole_slif.testing.trial import CheckFailure

__all__ = ["CHECKS", "CheckFailure", "check_recommender"]
