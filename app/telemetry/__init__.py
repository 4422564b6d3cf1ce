"""What a process reports to its operators: logs, metrics, traces."""
