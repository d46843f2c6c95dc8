"""Any rows of a ledger, for properties."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import strategies as st
from textmint.transforms.ledger.table import SCHEMA

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
STRINGS = [field.name for field in SCHEMA if field.type == pa.string()]
ROWS = st.lists(st.fixed_dictionaries({name: TEXT if name in STRINGS else INT64 for name in SCHEMA.names}), max_size=4)
