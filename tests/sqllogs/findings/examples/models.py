"""The models of the examples are those of the loops for advice, here of an installed app."""

from tests.sqllogs.advice_models import *  # noqa: F403
