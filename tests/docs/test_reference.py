"""The generated pages of docs/reference are those of the code."""

import msgspec
import pytest

from headcount.settings import MEANINGS, VARIABLES, Settings
from tests.docs.reference import FOLDER, PAGES
from tests.docs.settings import settings_page


@pytest.mark.parametrize("page", PAGES)
def test_it_is_what_the_code_says(page: str) -> None:
    assert (FOLDER / page).read_text() == PAGES[page](), "Run `make generate` and commit what it writes."


def test_every_setting_has_a_meaning_in_short_sentences() -> None:
    page = settings_page()
    for field in msgspec.structs.fields(Settings):
        assert f"| `{VARIABLES[field.name]}` |" in page
        description = MEANINGS[field.name].description
        assert description, field.name
        assert description.endswith("."), field.name
        assert all(len(sentence.split()) <= 25 for sentence in description.split(". ")), field.name
