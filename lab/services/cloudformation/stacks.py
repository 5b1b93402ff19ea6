"""CloudFormation: change sets and stacks applied in dependency order, with updates, removals and roll-back.

moto 5.2.5 creates in order only by CreateStack; a change set (what `cdk deploy` uses) goes in the template's order,
leaves outputs out, does not delete in order, and has no roll-back. This engine serves both.
"""

# moto is untyped, so a subclass cannot be checked against it.
# mypy: allow-subclassing-any
# Its models show parts of their state under private names only.
# ruff: noqa: SLF001

from __future__ import annotations

import contextlib
import copy
import re
import sys
import threading
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from moto.cloudformation import models, parsing
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import ChangeSet, CloudFormationBackend, Event, Stack
from moto.cloudformation.parsing import OutputMap, ResourceMap
from moto.cloudformation.responses import CloudFormationResponse
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, EmptyResult

from core import strict_json
from lab.services.cloudformation.creation_order import creation_order
from lab.services.moto_backend import MotoUrls, error_code
from lab.settings import stage_url

# What the CDK makes of an API's id: an address that leads nowhere in a lab.
_REST_URL: Final = re.compile(r"https://([a-z0-9]+)\.execute-api\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?/")
_REVIEW: Final = "REVIEW_IN_PROGRESS"
# What the services whose resources the lab creates answer for a resource that is not there.
_NOT_THERE: Final = frozenset(
    {
        "NoSuchBucket",
        "NoSuchEntity",
        "NotFoundException",
        "ParameterNotFound",
        "RepositoryNotFoundException",
        "ResourceNotFoundException",
    }
)


class ChangeSetNotFoundError(ServiceException):
    """What AWS answers for a change set that is not there."""

    code = "ChangeSetNotFound"


class LabOutputMap(OutputMap):
    """moto's outputs with the addresses of REST APIs as they are in this lab."""

    port: ClassVar[int]  # set by install()

    def __getitem__(self, key: str) -> Any:
        output = super().__getitem__(key)
        if output is not None and isinstance(output.value, str):
            output.value = _REST_URL.sub(lambda found: stage_url(self.port, found[1]), output.value)
        return output


class LabCloudFormationBackend(MotoUrls, CloudFormationBackend):
    """moto's backend with this engine below its four ways to change a stack."""

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        # Two stacks at once would interleave inside moto's models, which no lock of theirs guards.
        self._lock = threading.RLock()
        self._applying: list[Stack] = []  # by the thread that holds the lock: a root, then its nested stacks inwards

    def create_change_set(self, stack_name: str, *args: Any, **kwargs: Any) -> tuple[str, str]:
        """Reuse a stack that is still in review, and refuse a name that another of its change sets has.

        moto 5.2.5 makes a second stack of the same name. AWS adds the change set to the one that is there:
        https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_CreateChangeSet.html (ChangeSetType).
        """
        change_set_name = kwargs["change_set_name"]
        _refuse_no_name(stack_name)
        Stack.parse_template(kwargs["template"])  # a broken template is refused before the stack is there
        with contextlib.suppress(ChangeSetNotFoundError):
            self.describe_change_set(change_set_name, stack_name)
            raise models.AlreadyExistsException(f"ChangeSet {change_set_name} already exists")
        known = next((stack for stack in self.stacks.values() if stack.name == stack_name), None)
        if kwargs.get("change_set_type") == "UPDATE" or known is None:
            ids: tuple[str, str] = super().create_change_set(stack_name, *args, **kwargs)
            return ids
        if known.status != _REVIEW:
            raise ValidationError(stack_name, f"Stack [{stack_name}] already exists and cannot be created again")
        change_set_id, other_id = super().create_change_set(stack_name, *args, **kwargs)
        del self.stacks[other_id]
        change_set = self.change_sets[change_set_id]
        change_set.stack, change_set.stack_id = known, known.stack_id
        return change_set_id, known.stack_id

    def describe_change_set(self, change_set_name: str, stack_name: str | None = None) -> ChangeSet:
        """The change set of this ARN, or of this name in that stack. Raises ChangeSetNotFoundError.

        moto 5.2.5 looks by the name alone, and the CDK gives every stack's change set the same one.
        """
        for change_set_id, change_set in self.change_sets.items():
            stacks = {None, change_set.stack_name, change_set.stack_id}
            if change_set_id == change_set_name or (
                change_set.change_set_name == change_set_name and stack_name in stacks
            ):
                return change_set
        raise ChangeSetNotFoundError(f"ChangeSet [{change_set_name}] does not exist")

    def delete_change_set(self, change_set_name: str, stack_name: str | None = None) -> None:
        """Forget a change set; one that is not there is no failure, as on AWS."""
        with contextlib.suppress(ChangeSetNotFoundError):
            del self.change_sets[self.describe_change_set(change_set_name, stack_name).change_set_id]

    def execute_change_set(self, change_set_name: str, stack_name: str | None = None) -> None:
        """Apply a change set; a failure rolls back and shows in the stack's status and events, as on AWS."""
        change_set = self.describe_change_set(change_set_name, stack_name)
        if change_set.execution_status != "AVAILABLE":
            raise ValidationError(
                change_set_name,
                f"ChangeSet [{change_set_name}] cannot be executed in its current execution status of "
                f"[{change_set.execution_status}]",
            )
        stack = self.stacks[change_set.stack_id]
        with self._lock:
            applied = self._apply(
                stack, change_set.template, change_set.parameters, create=change_set.change_set_type == "CREATE"
            )
        change_set.execution_status = "EXECUTE_COMPLETE" if applied else "EXECUTE_FAILED"
        if change_set.tags is not None:
            stack.tags = change_set.tags
        # "When you execute a change set, CloudFormation deletes all other change sets associated with the stack."
        self._forget_change_sets(stack, but=change_set)

    def _forget_change_sets(self, stack: Stack, *, but: ChangeSet | None = None) -> None:
        for change_set_id, change_set in list(self.change_sets.items()):
            if change_set.stack_id == stack.stack_id and change_set is not but:
                del self.change_sets[change_set_id]

    def create_stack(self, name: str, template: str, parameters: dict[str, Any], **kwargs: Any) -> Stack:
        """Make a stack in dependency order, as a change set does."""
        _refuse_no_name(name)
        if any(stack.name == name for stack in self.stacks.values()):
            raise models.AlreadyExistsException(f"Stack {name} already exists")
        stack = Stack(
            stack_id=models.generate_stack_id(name, self.region_name, self.account_id),
            name=name,
            template={},
            parameters=parameters,
            account_id=self.account_id,
            region_name=self.region_name,
            notification_arns=kwargs.get("notification_arns"),
            tags=kwargs.get("tags"),
            role_arn=kwargs.get("role_arn"),
            cross_stack_resources=self.exports,
            enable_termination_protection=kwargs.get("enable_termination_protection"),
            timeout_in_mins=kwargs.get("timeout_in_mins"),
            stack_policy_body=kwargs.get("stack_policy_body"),
        )
        Stack.parse_template(template)  # a broken template is refused before the stack is there
        self.stacks[stack.stack_id] = stack
        with self._lock:
            if self._applying:
                stack.root_id, stack.parent_id = self._applying[0].stack_id, self._applying[-1].stack_id
            self._apply(stack, template, parameters, create=True)
        return stack

    def update_stack(
        self,
        name: str,
        template: str,
        role_arn: str | None,
        parameters: list[dict[str, Any]],
        tags: dict[str, str] | None,
    ) -> Stack:
        """Change a stack as a change set does."""
        stack: Stack = self.get_stack(name)
        resolved = self._resolve_update_parameters(instance=stack, incoming_params=parameters)
        with self._lock:
            self._apply(stack, template, resolved, create=False)
        stack.role_arn = role_arn
        if tags is not None:
            stack.tags = tags
        return stack

    def update_nested_stack(
        self, stack_id: str, template: str, parameters: dict[str, Any], tags: dict[str, str]
    ) -> Stack:
        """Bring a nested stack to a template; its status says whether that succeeded or was rolled back."""
        stack: Stack = self.stacks[stack_id]
        with self._lock:
            self._apply(stack, template, parameters, create=False)
        stack.tags = tags
        return stack

    def delete_stack(self, name_or_stack_id: str) -> None:
        """Delete a stack, dependents first; a failure leaves it in DELETE_FAILED with the reason in its events."""
        with self._lock:
            for stack_id, stack in list(self.stacks.items()):
                if name_or_stack_id in {stack_id, stack.name}:
                    self._delete(stack)

    def _delete(self, stack: Stack) -> None:
        _stack_event(stack, "DELETE_IN_PROGRESS", "User Initiated")
        exports = [export.name for export in stack.exports]
        try:
            _remove_all(stack)
        except Exception as error:  # noqa: BLE001 - whatever a resource raises is the reason AWS would show
            stack.status = "DELETE_FAILED"
            _stack_event(stack, "DELETE_FAILED", _reason(error))
            return
        for name in exports:
            self.exports.pop(name, None)
        stack.status = "DELETE_COMPLETE"
        _stack_event(stack, "DELETE_COMPLETE")
        self.stacks.pop(stack.stack_id, None)
        self._forget_change_sets(stack)
        self.deleted_stacks[stack.stack_id] = stack

    def _apply(self, stack: Stack, template: str, parameters: dict[str, Any], *, create: bool) -> bool:
        verb = "CREATE" if create else "UPDATE"
        before = (stack.template, stack.parameters)
        stack.cross_stack_resources = stack.resource_map.cross_stack_resources = self.exports
        _stack_event(stack, f"{verb}_IN_PROGRESS", "User Initiated")
        stack.status = f"{verb}_IN_PROGRESS"
        self._applying.append(stack)
        try:
            self._bring_to(stack, template, parameters)
        except Exception as error:  # noqa: BLE001 - whatever a resource raises is the reason AWS would show
            print(f"lab: stack {stack.name}: {_reason(error)}", file=sys.stderr)
            self._roll_back(stack, before, _reason(error), create=create)
            return False
        finally:
            self._applying.pop()
        stack.status = f"{verb}_COMPLETE"
        _stack_event(stack, f"{verb}_COMPLETE")
        return True

    def _roll_back(self, stack: Stack, before: tuple[Any, dict[str, Any]], reason: str, *, create: bool) -> None:
        state = "ROLLBACK" if create else "UPDATE_ROLLBACK"
        _stack_event(stack, f"{state}_IN_PROGRESS", reason)
        try:
            if create:
                _remove_all(stack)
            else:
                self._bring_to(stack, *before)
        except Exception as error:  # noqa: BLE001 - as above
            stack.status = f"{state}_FAILED"
            _stack_event(stack, stack.status, _reason(error))
            return
        stack.status = f"{state}_COMPLETE"
        _stack_event(stack, stack.status)

    def _bring_to(self, stack: Stack, template: str, parameters: dict[str, Any]) -> None:
        """Create, update and remove until the stack is what the template says."""
        wanted: dict[str, Any] = Stack.parse_template(template)
        resources: ResourceMap = stack.resource_map
        former: dict[str, Any] = resources._resource_json_map
        stack.template, stack.template_dict, stack.parameters = template, wanted, parameters
        stack.description = wanted.get("Description")
        resources._template = wanted
        resources._resource_json_map = {**former, **wanted["Resources"]}
        resources.input_parameters = parameters
        resources.load()
        for logical_id in creation_order(wanted["Resources"]):
            if _is_wanted(resources, wanted["Resources"][logical_id]):
                _create_or_update(stack, logical_id, wanted["Resources"][logical_id], former.get(logical_id))
        gone = [i for i in former if i not in wanted["Resources"] or not _is_wanted(resources, wanted["Resources"][i])]
        _remove(stack, gone, former)
        resources._resource_json_map = wanted["Resources"]
        for export in stack.exports:
            self.exports.pop(export.name, None)
        stack.output_map = LabOutputMap(resources, wanted, stack.stack_id)
        for export in stack.exports:
            self.exports[export.name] = export


def _is_wanted(resources: ResourceMap, resource: Mapping[str, Any]) -> bool:
    condition = resource.get("Condition")
    return not condition or bool(resources.lazy_condition_map[condition])


def _create_or_update(stack: Stack, logical_id: str, wanted: dict[str, Any], former: dict[str, Any] | None) -> None:
    resources: ResourceMap = stack.resource_map
    parsed: dict[str, Any] = resources._parsed_resources
    if former is not None and former["Type"] != wanted["Type"] and logical_id in parsed:
        _remove(stack, [logical_id], {logical_id: former})
    exists = logical_id in parsed
    properties = _resolved(resources, wanted)
    known = _known_properties(stack)
    if exists and known.get(logical_id) == properties:
        return
    verb = "UPDATE" if exists else "CREATE"
    physical_id = getattr(parsed.get(logical_id), "physical_resource_id", "") or ""
    _resource_event(stack, logical_id, physical_id, wanted["Type"], f"{verb}_IN_PROGRESS")
    try:
        if exists:
            parsed[logical_id] = _update(resources, logical_id, wanted)
        elif resources[logical_id] is None:
            raise ValidationError(stack.name, f"{wanted['Type']} could not be created")  # noqa: TRY301 - reported below
    except Exception as error:
        known.pop(logical_id, None)  # it may have changed in part: a roll-back brings it back
        _resource_event(stack, logical_id, physical_id, wanted["Type"], f"{verb}_FAILED", _reason(error))
        raise
    known[logical_id] = properties
    physical_id = getattr(parsed[logical_id], "physical_resource_id", "") or ""
    _resource_event(stack, logical_id, physical_id, wanted["Type"], f"{verb}_COMPLETE")


def _update(resources: ResourceMap, logical_id: str, wanted: dict[str, Any]) -> Any:
    changed = parsing.parse_and_update_resource(
        logical_id,
        wanted,
        resources,
        account_id=resources._account_id,
        region_name=resources._region_name,
    )
    if changed is not None:
        return changed
    # A type that moto cannot update: replaced, which is what AWS does where it cannot either.
    former = resources._parsed_resources.pop(logical_id)
    resources._delete_resource(former, wanted)
    return resources[logical_id]


def _remove_all(stack: Stack) -> None:
    """Delete every resource, and leave nothing that a look at the stack would create again: moto's map is lazy."""
    resources: ResourceMap = stack.resource_map
    _remove(stack, list(resources._resource_json_map))
    resources._template = stack.template_dict = {}
    resources._resource_json_map = {}
    stack.output_map = LabOutputMap(resources, {}, stack.stack_id)


def _remove(stack: Stack, logical_ids: list[str], templates: dict[str, Any] | None = None) -> None:
    """Delete resources, those that others depend on last; DeletionPolicy Retain is honored."""
    resources: ResourceMap = stack.resource_map
    templates = resources._resource_json_map if templates is None else templates
    parsed: dict[str, Any] = resources._parsed_resources
    chosen = set(logical_ids)
    for logical_id in reversed(creation_order(templates)):
        resource = parsed.get(logical_id)
        if logical_id not in chosen or resource is None or isinstance(resource, str):
            continue
        template = templates[logical_id]
        physical_id = getattr(resource, "physical_resource_id", "") or ""
        _known_properties(stack).pop(logical_id, None)
        parsed.pop(logical_id)
        if template.get("DeletionPolicy") in {"Retain", "RetainExceptOnCreate"}:
            _resource_event(stack, logical_id, physical_id, template["Type"], "DELETE_SKIPPED")
            continue
        try:
            resources._delete_resource(resource, template)
        except Exception as error:
            # Somebody deleted it by hand: CloudFormation counts that as deleted.
            if error_code(error) not in _NOT_THERE:
                parsed[logical_id] = resource
                _resource_event(stack, logical_id, physical_id, template["Type"], "DELETE_FAILED", _reason(error))
                raise
        _resource_event(stack, logical_id, physical_id, template["Type"], "DELETE_COMPLETE")


def _resolved(resources: ResourceMap, wanted: dict[str, Any]) -> Any:
    """Properties with every reference replaced: a resource changes also when what it refers to was replaced."""
    return copy.deepcopy(parsing.clean_json(wanted.get("Properties", {}), resources))


def _known_properties(stack: Stack) -> dict[str, Any]:
    known: dict[str, Any] | None = getattr(stack, "lab_known_properties", None)
    if known is None:
        known = stack.lab_known_properties = {}
    return known


def _stack_event(stack: Stack, status: str, reason: str | None = None) -> None:
    stack._add_stack_event(status, resource_status_reason=reason)


def _resource_event(
    stack: Stack, logical_id: str, physical_id: str, kind: str, status: str, reason: str | None = None
) -> None:
    stack.events.append(
        Event(
            stack_id=stack.stack_id,
            stack_name=stack.name,
            logical_resource_id=logical_id,
            physical_resource_id=physical_id,
            resource_type=kind,
            resource_status=status,
            resource_status_reason=reason,
            resource_properties=None,
        )
    )


def _reason(error: Exception) -> str:
    return str(getattr(error, "message", "") or error or type(error).__name__)


def _refuse_no_name(stack_name: str | None) -> None:
    """Raise ValidationError: moto 5.2.5 makes a stack without a name."""
    if not stack_name:
        raise ValidationError(message='Missing required parameter in input: "StackName"')


def parse_template(template: str) -> dict[str, Any]:
    """A template as a dictionary, JSON first. Raises ValidationError.

    moto 5.2.5 gives JSON, too, to a YAML parser in Python, which takes seconds for a stack of 150 resources, and does
    so several times a deployment.
    """
    if not template:
        raise ValidationError(message="Either Template URL or Template Body must be specified.")
    try:
        parsed = strict_json.loads(template)
    except ValueError as error:
        if template.lstrip().startswith("{"):
            raise ValidationError(message=f"Template format error: JSON not well-formed. ({error})") from None
        parsed = _parse_yaml(template)
    _refuse_nan(parsed)
    if not isinstance(parsed, dict):
        raise ValidationError(message="Template format error: unsupported structure.")
    return parsed


def _refuse_nan(parsed: Any) -> None:
    """YAML has numbers that JSON has not, and Python reads 1e999 as one of them."""
    try:
        strict_json.dumps(parsed, skipkeys=True, default=str)
    except ValueError as error:
        raise ValidationError(message=f"Template format error: {error}") from None


_parse_yaml = Stack.parse_template


def _parse_change_set_template(self: ChangeSet) -> None:
    """`ChangeSet._parse_template` by way of `parse_template`, for the same reason."""
    self.template_dict = parse_template(self.template)


def _describe_change_set(self: CloudFormationResponse) -> ActionResult:
    """`CloudFormationResponse.describe_change_set`: moto 5.2.5 drops the name of the stack."""
    params = self._get_params()
    return ActionResult(
        self.cloudformation_backend.describe_change_set(params["ChangeSetName"], params.get("StackName"))
    )


def _delete_change_set(self: CloudFormationResponse) -> ActionResult:
    """`CloudFormationResponse.delete_change_set`, for the same reason."""
    params = self._get_params()
    self.cloudformation_backend.delete_change_set(params["ChangeSetName"], params.get("StackName"))
    return EmptyResult()


def _stack_parameters(self: Stack) -> dict[str, Any]:
    """`Stack.stack_parameters`: for a parameter kept in Systems Manager its name there, as it was given.

    moto 5.2.5 gives the value found under the name. With UsePreviousValue, which the CDK sends for its bootstrap
    version at every update, that value is then looked up as if it were a name.
    """
    shown = dict(self.resource_map.resolved_parameters)
    for name, slot in self.template_dict.get("Parameters", {}).items():
        if slot["Type"].startswith("AWS::SSM::Parameter::"):
            shown[name] = self.parameters.get(name, slot.get("Default"))
    return shown


def install(port: int) -> None:
    """Put the engine into moto; `port` is the lab's."""
    LabOutputMap.port = port
    models.cloudformation_backends.backend = LabCloudFormationBackend
    Stack.parse_template = staticmethod(parse_template)
    CloudFormationResponse.describe_change_set = _describe_change_set
    CloudFormationResponse.delete_change_set = _delete_change_set
    ChangeSet._parse_template = _parse_change_set_template
    Stack.stack_parameters = property(_stack_parameters)
