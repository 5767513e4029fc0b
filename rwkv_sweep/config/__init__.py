"""What a run can be configured with: schemas, checks of values, error messages, layer specifications.

The YAML files are in conf/.
"""
