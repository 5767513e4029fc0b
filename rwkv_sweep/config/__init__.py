"""What a run can be configured with: schemas, checks of values, error messages, layer specifications.

YAML files lie in conf/.
"""
