"""Where moto departs from API Gateway: binary media types that are patched, and keys that are deleted."""

from __future__ import annotations

from typing import Any, Final

from moto.apigateway.exceptions import BadRequestException
from moto.apigateway.models import APIGatewayBackend, RestAPI

_BINARY_MEDIA_TYPES: Final = "/binaryMediaTypes/"
_moto_applies: Final = RestAPI.apply_patch_operations
_moto_deletes_key: Final = APIGatewayBackend.delete_api_key


def _apply_patch_operations(self: RestAPI, operations: list[dict[str, Any]]) -> None:
    """`RestAPI.apply_patch_operations`: moto 5.2.5 looks for a binary media type in `value`, where AWS has none."""
    if any(str(operation.get("path", "")).startswith(_BINARY_MEDIA_TYPES) for operation in operations):
        raise BadRequestException("binaryMediaTypes cannot be patched in the lab: declare BinaryMediaTypes in a stack")
    _moto_applies(self, operations)


def _delete_api_key(self: APIGatewayBackend, api_key_id: str) -> None:
    """`APIGatewayBackend.delete_api_key`: moto 5.2.5 leaves the key in its usage plans."""
    _moto_deletes_key(self, api_key_id)
    for keys in self.usage_plan_keys.values():
        keys.pop(api_key_id, None)


def install() -> None:
    """Put the fixes into moto."""
    APIGatewayBackend.delete_api_key = _delete_api_key
    RestAPI.apply_patch_operations = _apply_patch_operations
