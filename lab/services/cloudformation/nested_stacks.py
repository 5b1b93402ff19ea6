"""AWS::CloudFormation::Stack: a stack inside a stack, applied by the same engine.

moto 5.2.5 creates a nested stack by CreateStack alone, without its outputs, updates and removal.
Property names and return values:
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-resource-cloudformation-stack.html
"""

# moto is untyped, so a subclass cannot be checked against it.
# mypy: allow-subclassing-any

from __future__ import annotations

from typing import Any, Final, Self

from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.utils import get_stack_from_s3_url
from moto.core.common_models import CloudFormationModel
from moto.s3.exceptions import MissingBucket
from moto.utilities.utils import get_partition

from lab.services.cloudformation.resource import Place, Properties, Resource, tags_of

_OUTPUT: Final = "Outputs."


class NestedStackResource(Resource, CloudFormationModel):
    """One nested stack; its outputs are attributes named `Outputs.NAME`."""

    kind = "AWS::CloudFormation::Stack"

    @classmethod
    def create(cls, name: str, properties: Properties, place: Place) -> Self:
        """Create the stack. Raises ValidationError with the reason where it rolled back, and leaves no stack then."""
        stack = place.stacks.create_stack(
            name, _template(properties["TemplateURL"], place), _parameters(properties), tags=tags_of(properties)
        )
        try:
            _check(stack, "CREATE_COMPLETE")
        except ValidationError:
            place.stacks.delete_stack(stack.stack_id)  # its parent never gets to know it, so nothing else deletes it
            raise
        return cls(stack.stack_id, properties, _outputs(stack))

    def change(self, properties: Properties, place: Place) -> None:
        stack = place.stacks.update_nested_stack(
            self.physical_resource_id,
            _template(properties["TemplateURL"], place),
            _parameters(properties),
            tags_of(properties),
        )
        _check(stack, "UPDATE_COMPLETE")
        self.values = _outputs(stack)

    def remove(self, place: Place) -> None:
        stack = place.stacks.stacks.get(self.physical_resource_id)
        if stack is None:
            return  # somebody deleted it by hand
        place.stacks.delete_stack(self.physical_resource_id)
        _check(stack, "DELETE_COMPLETE")

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return attr.startswith(_OUTPUT)


def _template(url: str, place: Place) -> str:
    try:
        template: str = get_stack_from_s3_url(url, account_id=place.account_id, partition=get_partition(place.region))
    except (AttributeError, MissingBucket):  # moto 5.2.5 reads the value of a key that does not exist
        raise ValidationError(url, f"S3 has no template at {url}") from None
    return template


def _parameters(properties: Properties) -> dict[str, Any]:
    return {name: _text(value) for name, value in properties.get("Parameters", {}).items()}


def _text(value: Any) -> str:
    """A parameter as CloudFormation passes it on: true and false as in JSON, a list separated by commas."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(_text, value)) if isinstance(value, list) else str(value)


def _outputs(stack: Any) -> dict[str, str]:
    return {f"{_OUTPUT}{output.key}": output.value for output in stack.output_map.values()}


def _check(stack: Any, wanted: str) -> None:
    if stack.status == wanted:
        return
    reasons = (event.resource_status_reason for event in stack.events if event.resource_status.endswith("_FAILED"))
    reason = next(filter(None, reasons), stack.status)
    raise ValidationError(stack.name, f"Embedded stack {stack.stack_id} is not {wanted}: {reason}")
