"""The protocols that measure a deployment: cold, warm and load, their plan, their checks and what they leave behind."""
