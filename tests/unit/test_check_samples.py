"""The sample record of each check type: what the manual shows must be what a run may give."""

from __future__ import annotations

import pytest

from agent import checks
from agent.checks import Check


@pytest.mark.parametrize("of", [of for of in checks.load().values() if of.sample], ids=lambda of: of.type)
def test_a_sample_has_only_the_fields_and_kinds_of_its_type(of: type[Check]) -> None:
    assert set(of.sample) <= set(of.facts)
    for name, value in of.sample.items():
        assert isinstance(value, of.facts[name].kind), name
        assert not of.facts[name].words or value in of.facts[name].words, name
