"""What the operating system offers: processes and what they use, tokens, the resource tracker."""
