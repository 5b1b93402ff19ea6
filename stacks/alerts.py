"""Alarms for errors and throttles, and a budget, told by e-mail; deployed where `operations.notify_email` is set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import aws_cdk as cdk
from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from core.configuration import Configuration
from stacks.acknowledgements import acknowledge

# An alarm watches ten metrics at most.
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
METRICS_PER_ALARM: Final = 10
PERIOD: Final = cdk.Duration.minutes(5)
SPENT_PERCENT: Final = 80


class Alerts(cdk.NestedStack):
    """One topic with the address, alarms over the functions in groups of ten, and the budget of the account."""

    def __init__(self, scope: Construct, id_: str, *, configuration: Configuration) -> None:
        super().__init__(scope, id_, description="Alarms and budget of the image classification functions")
        self._configuration = configuration
        # Without a key: CloudWatch cannot publish to a topic that AWS's own key encrypts, and alarms hold no secret.
        topic = sns.Topic(self, "Topic", enforce_ssl=True)
        acknowledge(
            topic,
            {"Serverless::Serverless-SNSRedrivePolicy": "SNS itself retries e-mail; the alarm's state says the same."},
        )
        topic.add_subscription(subscriptions.EmailSubscription(configuration.operations.notify_email))
        names = [configuration.names.function(variant) for variant in configuration.variants]
        groups = [names[start : start + METRICS_PER_ALARM] for start in range(0, len(names), METRICS_PER_ALARM)]
        for metric in ("Errors", "Throttles"):
            for number, group in enumerate(groups, start=1):
                self._build_alarm(metric, number, group).add_alarm_action(actions.SnsAction(topic))
        if configuration.operations.monthly_budget_usd:
            self._build_budget()

    def _build_alarm(self, name: str, number: int, functions: Sequence[str]) -> cloudwatch.Alarm:
        metrics: dict[str, cloudwatch.IMetric] = {
            f"m{index}": cloudwatch.Metric(
                namespace="AWS/Lambda",
                metric_name=name,
                dimensions_map={"FunctionName": function},
                statistic="Sum",
                period=PERIOD,
            )
            for index, function in enumerate(functions)
        }
        total = cloudwatch.MathExpression(
            expression="SUM(METRICS())",
            using_metrics=metrics,
            period=PERIOD,
            label=f"{name} of {len(functions)} functions",
        )
        return cloudwatch.Alarm(
            self,
            f"{name}{number}",
            metric=total,
            threshold=1,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            # Functions that nobody calls have no metrics, and nothing is wrong with them.
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            alarm_description=f"{name} of {functions[0]} and others in {PERIOD.to_minutes():g} minutes",
        )

    def _build_budget(self) -> None:
        """Build a budget of the whole account: a filter by tag finds nothing until the tag is activated for billing."""
        operations = self._configuration.operations
        subscriber = budgets.CfnBudget.SubscriberProperty(address=operations.notify_email, subscription_type="EMAIL")
        budgets.CfnBudget(
            self,
            "Budget",
            budget=budgets.CfnBudget.BudgetDataProperty(
                budget_name=self._configuration.names.budget,
                budget_type="COST",
                time_unit="MONTHLY",
                budget_limit=budgets.CfnBudget.SpendProperty(amount=operations.monthly_budget_usd, unit="USD"),
            ),
            notifications_with_subscribers=[
                budgets.CfnBudget.NotificationWithSubscribersProperty(
                    notification=budgets.CfnBudget.NotificationProperty(
                        comparison_operator="GREATER_THAN", notification_type=kind, threshold=threshold
                    ),
                    subscribers=[subscriber],
                )
                for kind, threshold in (("ACTUAL", SPENT_PERCENT), ("FORECASTED", 100))
            ],
        )
