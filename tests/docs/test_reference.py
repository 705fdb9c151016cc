"""The generated pages of docs/reference are those of the code."""

import pytest

from tests.docs.reference import FOLDER, PAGES


@pytest.mark.parametrize("page", PAGES)
def test_it_is_what_the_code_says(page: str) -> None:
    assert (FOLDER / page).read_text() == PAGES[page](), "Run `make generate` and commit what it writes."
