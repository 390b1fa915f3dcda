"""All rows of the transformers sweep."""

from __future__ import annotations

from tests.conformance import architectures_audio, architectures_text, architectures_vision

ARCHITECTURES = [*architectures_text.ROWS, *architectures_vision.ROWS, *architectures_audio.ROWS]
