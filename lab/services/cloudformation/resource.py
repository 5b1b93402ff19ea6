"""What every resource type of CloudFormation has in common.

moto finds a type through the direct subclasses of CloudFormationModel, the last one of a type winning; so each subclass
represents one type. It makes moto's own objects, so that the API shows what CloudFormation made.
Property names are those of https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-template-resource-type-ref.html
"""

# moto is untyped, so a subclass cannot be checked against it.
# mypy: allow-subclassing-any

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from moto.apigateway.models import apigateway_backends
from moto.awslambda.models import lambda_backends
from moto.cloudformation.exceptions import UnformattedGetAttTemplateException
from moto.cloudformation.models import cloudformation_backends
from moto.logs.models import logs_backends
from moto.scheduler.models import scheduler_backends

Properties = dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Account and region of a stack."""

    account_id: str
    region: str

    @property
    def apis(self) -> Any:
        return apigateway_backends[self.account_id][self.region]

    @property
    def functions(self) -> Any:
        return lambda_backends[self.account_id][self.region]

    @property
    def schedules(self) -> Any:
        return scheduler_backends[self.account_id][self.region]

    @property
    def logs(self) -> Any:
        return logs_backends[self.account_id][self.region]

    @property
    def stacks(self) -> Any:
        return cloudformation_backends[self.account_id][self.region]


class Resource:
    """Half of a resource type: subclasses say how to create, change and delete; this answers CloudFormation."""

    kind: ClassVar[str]
    attributes: ClassVar[frozenset[str]] = frozenset()
    name_property: ClassVar[str] = ""
    replaced_by: ClassVar[tuple[str, ...]] = ()  # a change of these properties makes a new resource

    def __init__(self, physical_id: str, properties: Properties, values: Mapping[str, str] | None = None) -> None:
        self.physical_resource_id = physical_id
        self.properties = properties
        self.values = dict(values or {})

    @classmethod
    def create(cls, name: str, properties: Properties, place: Place) -> Self:
        """Make the resource; `name` is generated unless the template gives one."""
        made = cls(name, properties, {"Id": name})
        made.change(properties, place)
        return made

    def change(self, properties: Properties, place: Place) -> None:
        """Bring the resource to these properties; by default, none changes without a replacement."""

    def remove(self, place: Place) -> None:
        """Delete the resource; by default it stays."""

    def tags_after(self, properties: Properties, tags: Mapping[str, str] | None) -> dict[str, str]:
        """Return the tags after a change: those of the template, and of `tags` those that no template gave."""
        former = tags_of(self.properties)
        return {key: value for key, value in (tags or {}).items() if key not in former} | tags_of(properties)

    # What moto's CloudFormation asks -----------------------------------------

    @classmethod
    def cloudformation_type(cls) -> str:
        return cls.kind

    @classmethod
    def cloudformation_name_type(cls) -> str:
        return cls.name_property

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return attr in cls.attributes

    def get_cfn_attribute(self, attribute_name: str) -> str:
        if attribute_name not in self.values:
            raise UnformattedGetAttTemplateException
        return self.values[attribute_name]

    def is_created(self) -> bool:
        return True

    @classmethod
    def create_from_cloudformation_json(
        cls, resource_name: str, cloudformation_json: Properties, account_id: str, region_name: str, **_: Any
    ) -> Self:
        return cls.create(resource_name, cloudformation_json["Properties"], Place(account_id, region_name))

    @classmethod
    def update_from_cloudformation_json(
        cls,
        original_resource: Self,
        new_resource_name: str,
        cloudformation_json: Properties,
        account_id: str,
        region_name: str,
    ) -> Self:
        place, properties = Place(account_id, region_name), cloudformation_json["Properties"]
        former = original_resource.properties
        if any(former.get(name) != properties.get(name) for name in (*cls.replaced_by, cls.name_property) if name):
            replacement = cls.create(new_resource_name, properties, place)
            original_resource.remove(place)
            return replacement
        original_resource.change(properties, place)
        original_resource.properties = properties
        return original_resource

    def delete(self, account_id: str, region: str) -> None:
        self.remove(Place(account_id, region))


def tags_of(properties: Properties) -> dict[str, str]:
    """Return the tags by key."""
    tags: Iterable[Mapping[str, str]] = properties.get("Tags") or []
    return {tag["Key"]: tag["Value"] for tag in tags}


def flag(value: Any) -> bool:
    """Return a boolean that may be text."""
    return str(value).lower() == "true"


def number(value: Any) -> int | None:
    """Return a whole number that may be text."""
    return None if value is None else int(value)


def json_text(value: Any) -> str:
    """Return a document as JSON text."""
    return value if isinstance(value, str) else json.dumps(value, default=str)
