"""CloudFormation: stacks, change sets and resource types."""
