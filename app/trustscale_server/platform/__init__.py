"""What every room stands on: errors, telemetry, tasks, memory, and fair shares of both."""
