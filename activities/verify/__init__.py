"""Is what serves now the new version, and does it work for users?"""

from activities.verify.activities import VerifyActivities

__all__ = ["VerifyActivities"]
