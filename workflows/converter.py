"""How models become payloads. The same converter serves client, worker, tests and replay.

A payload that does not fit its model fails the workflow, or is refused to the caller, with the reason; the stock
converter lets a workflow that was started with bad input hang for ever.
"""

import dataclasses
from typing import Any

from pydantic import ValidationError
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import PydanticJSONPlainPayloadConverter, pydantic_data_converter
from temporalio.converter import (
    CompositePayloadConverter,
    DefaultPayloadConverter,
    JSONPlainPayloadConverter,
    create_payload_validation_error,
)


class _StrictJSON(PydanticJSONPlainPayloadConverter):
    def from_payload(self, payload: Payload, type_hint: type[Any] | None = None) -> Any:
        try:
            return super().from_payload(payload, type_hint)
        except ValidationError as error:
            details = error.errors(include_url=False, include_context=False, include_input=False)
            raise create_payload_validation_error(details) from None


class _StrictConverter(CompositePayloadConverter):
    def __init__(self) -> None:
        strict = _StrictJSON()
        super().__init__(
            *(
                strict if isinstance(converter, JSONPlainPayloadConverter) else converter
                for converter in DefaultPayloadConverter.default_encoding_payload_converters
            )
        )


strict_data_converter = dataclasses.replace(pydantic_data_converter, payload_converter_class=_StrictConverter)
