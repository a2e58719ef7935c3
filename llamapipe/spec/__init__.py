"""Pipelines as data: the spec, its YAML and DSL forms, validation and graph views."""
