"""The site's settings with a writer that rests for a minute: what is stored sooner, an end has stored."""

from core.settings import *  # noqa: F403
from core.settings import SQLLOGS

SQLLOGS = SQLLOGS | {"FLUSH_INTERVAL_S": 60.0}
