"""Operating-system services: processes and their resource usage, tokens, the resource tracker."""
