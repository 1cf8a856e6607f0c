"""What the tests of settings share: how a value is refused, and settings changed by name."""

import pytest

from pggan.config.presets import with_settings
from pggan.config.schema import Config
from pggan.errors import UserError


def refusal(act, *arguments) -> str:
    """Returns the message of the UserError that act(*arguments) must raise: one plain line."""
    with pytest.raises(UserError) as caught:
        act(*arguments)
    message = str(caught.value)
    assert message and "\n" not in message and len(message) < 300
    return message


def changed(**settings: object) -> Config:
    """Returns the default settings with some changed."""
    return with_settings(Config(), settings)
