"""docs/settings.md is what the code says."""

import settings_page

from ortolan import triton_flags
from ortolan.hosting import runtime_flags
from ortolan.settings import Settings, flag_of

PAGE = settings_page.PAGE.read_text(encoding="utf-8")


def test_the_page_is_not_stale() -> None:
    assert settings_page.page().rstrip() + "\n" == PAGE, "docs/settings.md is stale: run `make settings-page`"


def test_every_flag_is_on_it() -> None:
    flags = {*map(flag_of, Settings.model_fields), *triton_flags.WITHOUT_EFFECT, *runtime_flags.WITHOUT_EFFECT}
    flags |= {*triton_flags.TRACE_FLAGS, *runtime_flags.FIELD_OF_FLAG, *runtime_flags.REFUSED}
    assert not [flag for flag in sorted(flags) if f"`{flag}`" not in PAGE]


def test_every_setting_has_a_row_with_its_variable() -> None:
    assert not [name for name in Settings.model_fields if f" | `ORTOLAN_{name.upper()}` | " not in PAGE]
