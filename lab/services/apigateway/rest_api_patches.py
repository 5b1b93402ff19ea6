"""Where moto departs from API Gateway: patches that name a list's member in their path, and keys that are deleted."""

from __future__ import annotations

from typing import Any, Final

from moto.apigateway.models import APIGatewayBackend, RestAPI

_BINARY_MEDIA_TYPES: Final = "/binaryMediaTypes/"
_moto_applies: Final = RestAPI.apply_patch_operations
_moto_deletes_key: Final = APIGatewayBackend.delete_api_key


def _apply_patch_operations(self: RestAPI, operations: list[dict[str, Any]]) -> None:
    """`RestAPI.apply_patch_operations`: moto 5.2.5 looks for a binary media type in `value`, where AWS has none.

    Source: "Patch operations" of the API Gateway API reference; a slash within a path's part is written ~1.
    """
    for operation in operations:
        path = str(operation.get("path", ""))
        if not path.startswith(_BINARY_MEDIA_TYPES):
            _moto_applies(self, [operation])
            continue
        named = path.removeprefix(_BINARY_MEDIA_TYPES).replace("~1", "/").replace("~0", "~")
        types = [media for media in self.binaryMediaTypes if media != named]
        if operation.get("op") == "add":
            types.append(named)
        elif operation.get("op") == "replace":
            types.append(str(operation.get("value", "")))
        self.binaryMediaTypes = types


def _delete_api_key(self: APIGatewayBackend, api_key_id: str) -> None:
    """`APIGatewayBackend.delete_api_key`: moto 5.2.5 leaves the key in its usage plans."""
    _moto_deletes_key(self, api_key_id)
    for keys in self.usage_plan_keys.values():
        keys.pop(api_key_id, None)


def install() -> None:
    """Put the fixes into moto."""
    APIGatewayBackend.delete_api_key = _delete_api_key
    RestAPI.apply_patch_operations = _apply_patch_operations
