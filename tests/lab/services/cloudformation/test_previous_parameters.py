"""Parameters that an update takes over from before, as the CDK sends them for its bootstrap version."""

import json

from tests.lab_support import Lab

TEMPLATE = {
    "Parameters": {"BootstrapVersion": {"Type": "AWS::SSM::Parameter::Value<String>", "Default": "/bootstrap/version"}},
    "Resources": {"Logs": {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "one"}}},
}


def test_an_update_with_the_previous_value_of_a_parameter_in_systems_manager_succeeds(shared_lab: Lab) -> None:
    shared_lab.client("ssm").put_parameter(Name="/bootstrap/version", Value="30", Type="String")
    cloudformation = shared_lab.client("cloudformation")
    changed = json.loads(json.dumps(TEMPLATE).replace('"one"', '"two"'))
    for kind, template, parameters in (
        ("CREATE", TEMPLATE, []),
        ("UPDATE", changed, [{"ParameterKey": "BootstrapVersion", "UsePreviousValue": True}]),
    ):
        where = {"StackName": "functions", "ChangeSetName": kind}
        cloudformation.create_change_set(
            **where, ChangeSetType=kind, TemplateBody=json.dumps(template), Parameters=parameters
        )
        cloudformation.execute_change_set(**where)
        (stack,) = cloudformation.describe_stacks(StackName="functions")["Stacks"]
        assert stack["StackStatus"] == f"{kind}_COMPLETE"
