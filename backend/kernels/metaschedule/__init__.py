"""Kernels found by TVM's MetaSchedule, where a tuning database has one."""
