"""Fakes and conformance tests for those who write operators and backends."""
