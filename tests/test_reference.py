"""docs/reference: pages that are made from the code are current, and say something of everything."""

import msgspec

from headcount.settings import MEANINGS, VARIABLES, Settings
from tests.reference import SETTINGS, settings_page


def test_the_page_of_settings_is_current() -> None:
    assert SETTINGS.read_text() == settings_page(), "run `make generate`"


def test_it_has_every_setting_with_a_meaning() -> None:
    page = settings_page()
    for field in msgspec.structs.fields(Settings):
        assert f"| `{VARIABLES[field.name]}` |" in page
        description = MEANINGS[field.name].description
        assert description, field.name
        assert description.endswith("."), field.name
        assert all(len(sentence.split()) <= 25 for sentence in description.split(". ")), field.name
